"""A scheduler's policy: reservations, licences, shares, quotas, and limits of which nothing is left."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator

from exporter.gauges import Family, Sample
from exporter.latest import ClusterView, Part
from history.policies import Licence, Limit, Reservation, Share
from history.vocabulary import LIMIT_KINDS, LimitKind


def _reservations(value: Callable[[Reservation], float | None]) -> Callable[[ClusterView], Iterable[Sample]]:
    def samples(view: ClusterView) -> Iterator[Sample]:
        for each in (view.reservations and view.reservations.reservations) or ():
            said = value(each)
            if said is not None:
                yield (each.name,), said

    return samples


def _licences(value: Callable[[Licence], float | None]) -> Callable[[ClusterView], Iterable[Sample]]:
    def samples(view: ClusterView) -> Iterator[Sample]:
        for each in (view.licences and view.licences.licences) or ():
            said = value(each)
            if said is not None:
                yield (each.name,), said

    return samples


def _shares(value: Callable[[Share], float | None]) -> Callable[[ClusterView], Iterable[Sample]]:
    """Return what tells of each account and of the users that have had most of late, as many as have series."""

    def samples(view: ClusterView) -> Iterator[Sample]:
        for each in view.once(_shown):
            said = value(each)
            if said is not None:
                yield (each.account, each.owner), said

    return samples


def _shown(view: ClusterView) -> list[Share]:
    found = (view.shares and view.shares.shares) or []
    users = sorted((each for each in found if each.owner), key=_had)[: view.owners]
    return [*(each for each in found if not each.owner), *users]


def _had(share: Share) -> tuple[float, str, str]:
    return -(share.used_seconds or 0.0), share.owner, share.account


def _quotas(value: Callable[[Limit], float | None]) -> Callable[[ClusterView], Iterable[Sample]]:
    def samples(view: ClusterView) -> Iterator[Sample]:
        for each in (view.limits and view.limits.limits) or ():
            said = value(each) if each.kind is LimitKind.GROUP and each.native_limit == "EffectiveQuota" else None
            if said is not None:
                yield (each.name,), said

    return samples


def _full(view: ClusterView) -> Iterable[Sample]:
    if view.limits is None:
        return ()
    full = Counter(
        each.kind.value
        for each in view.limits.limits or ()
        if each.used is not None and each.used >= each.value and not each.soft
    )
    return (((kind,), full[kind]) for kind in LIMIT_KINDS)


def _family(
    name: str, about: str, labels: tuple[str, ...], part: Part, samples: Callable[[ClusterView], Iterable[Sample]]
) -> Family:
    return Family(name=name, help=about, labels=labels, parts=frozenset({part}), samples=samples)


def _of_reservation(name: str, about: str, value: Callable[[Reservation], float | None]) -> Family:
    return _family(f"bbq_reservation_{name}", about, ("reservation",), Part.RESERVATIONS, _reservations(value))


def _of_licence(name: str, about: str, value: Callable[[Licence], float | None]) -> Family:
    return _family(f"bbq_licences{name}", about, ("licence",), Part.LICENCES, _licences(value))


def _of_share(name: str, about: str, value: Callable[[Share], float | None]) -> Family:
    return _family(name, about, ("account", "owner"), Part.SHARES, _shares(value))


FAMILIES = (
    _of_reservation("cpus", "CPUs of the workers that a reservation keeps.", lambda each: each.cpus),
    _of_reservation("workers", "Workers that a reservation keeps.", lambda each: len(each.workers)),
    _of_reservation("active", "1 while a reservation keeps something, 0 before.", lambda each: each.active),
    _of_reservation("begin_timestamp_seconds", "When a reservation begins.", lambda each: each.begins_at.timestamp()),
    _of_reservation(
        "end_timestamp_seconds",
        "When a reservation ends.",
        lambda each: None if each.ends_at is None else each.ends_at.timestamp(),
    ),
    _of_licence("", "Licences that there are.", lambda each: each.total),
    _of_licence("_used", "Licences that jobs use.", lambda each: each.used),
    _of_licence("_reserved", "Licences that are kept for reservations.", lambda each: each.reserved),
    _of_share(
        "bbq_fair_share_ratio",
        "Slurm's fair-share factor of an account, or of a user (owner) in it: the larger, the sooner its turn.",
        lambda each: each.factor,
    ),
    _of_share(
        "bbq_share_priority",
        "HTCondor's effective priority of a group or a submitter (owner): the smaller, the sooner its turn.",
        lambda each: each.priority,
    ),
    _of_share(
        "bbq_share_used_cpu_seconds",
        "CPU time of late, which counts less the longer ago it is.",
        lambda each: each.used_seconds,
    ),
    _family(
        "bbq_group_quota_cpus",
        "What an accounting group may have, as the negotiator has worked it out, in weighted slots.",
        ("group",),
        Part.LIMITS,
        _quotas(lambda each: each.value),
    ),
    _family(
        "bbq_group_quota_cpus_used",
        "What of its quota an accounting group holds; more than all of it where others leave theirs.",
        ("group",),
        Part.LIMITS,
        _quotas(lambda each: each.used),
    ),
    _family("bbq_limits_full", "Limits of which nothing is left, by whose they are.", ("kind",), Part.LIMITS, _full),
)
