"""The policy of the simulated site: limits, shares, reservations and licences, with what is used of them."""

from collections import Counter
from collections.abc import Iterator, Mapping

from exporter.readings import Feed, Kind, PolicyReading
from exporter.sources.demo.site import Site, utc
from history.policies import Account, Licence, Limit, Reservation, Share
from history.vocabulary import LimitKind

NO_GROUP = "<none>"
_DAY = 86_400
_LICENCES: Mapping[str, int] = {"ansys": 24, "comsol": 8, "matlab": 120}
_MOST_JOBS = 2_000
"""How many jobs a user may have at work at a time on the local cluster."""


def reading(site: Site, feed: Feed) -> PolicyReading:
    """Return a part of the policy, with what is used at the site's moment."""
    taken_at = utc(site.now)
    if feed.kind is Kind.LIMITS:
        return PolicyReading(taken_at=taken_at, accounts=_accounts(site), limits=list(_limits(site)))
    if feed.kind is Kind.SHARES:
        return PolicyReading(taken_at=taken_at, shares=list(_shares(site)))
    if feed.kind is Kind.RESERVATIONS:
        return PolicyReading(taken_at=taken_at, reservations=list(_reservations(site)))
    return PolicyReading(taken_at=taken_at, licences=list(_licences(site)))


def _account_names(site: Site) -> list[str]:
    return sorted({account for _, account, _ in site.plan.owners})


def _accounts(site: Site) -> list[Account]:
    top = NO_GROUP if site.plan.grid else "root"
    return [Account(name=top), *(Account(name=name, parent=top) for name in _account_names(site))]


def _held(site: Site) -> tuple[Counter[str], Counter[str], Counter[str]]:
    """Return the CPUs that jobs hold by account and by owner, and how many jobs each owner has at work."""
    by_account, by_owner, jobs = Counter[str](), Counter[str](), Counter[str]()
    for job in site.jobs.values():
        if job.run is not None:
            owner, account, _ = job.owner
            by_account[account] += job.cpus * job.nodes
            by_owner[owner] += job.cpus * job.nodes
            jobs[owner] += 1
    return by_account, by_owner, jobs


def _limits(site: Site) -> Iterator[Limit]:
    by_account, _, jobs = _held(site)
    names = _account_names(site)
    whole = sum(worker.cpus for worker in site.workers)
    for index, name in enumerate(names):
        # the first accounts may have more than an equal part
        value = float(whole * (len(names) - index) // sum(range(len(names) + 1)))
        used = float(by_account[name])
        if site.plan.grid:
            for limit in ("ConfigQuota", "EffectiveQuota"):
                yield Limit(
                    kind=LimitKind.GROUP, name=name, native_limit=limit, resource="cpus", value=value, used=used,
                    soft=True,
                )  # fmt: skip
        else:
            value = max(value, used)
            yield Limit(
                kind=LimitKind.ACCOUNT, name=name, native_limit="GrpTRES", resource="cpus", value=value, used=used
            )
    if not site.plan.grid:
        for owner, account, _ in site.plan.owners:
            yield Limit(
                kind=LimitKind.USER, name=account, owner=owner, native_limit="MaxJobs", resource="jobs",
                value=float(_MOST_JOBS), used=float(jobs[owner]),
            )  # fmt: skip
        yield Limit(
            kind=LimitKind.QOS, name="normal", native_limit="MaxWallPJ", resource="wall_seconds", value=7.0 * _DAY
        )


def _shares(site: Site) -> Iterator[Share]:
    by_account, by_owner, _ = _held(site)
    whole = max(1, sum(by_account.values()))
    names = _account_names(site)
    top = NO_GROUP if site.plan.grid else "root"
    for index, name in enumerate(names):
        used = by_account[name] / whole
        if site.plan.grid:
            yield Share(account=name, parent=top, priority=1000.0, shares=1000.0, held=float(by_account[name]))
        else:
            yield Share(
                account=name, parent=top, shares=float(len(names) - index), used=used, used_seconds=used * whole * _DAY,
                entitled=(len(names) - index) / sum(range(len(names) + 1)),
            )  # fmt: skip
    ranked = sorted(site.plan.owners, key=lambda owner: (by_owner[owner[0]], owner))
    for rank, (owner, account, _) in enumerate(ranked):
        held = by_owner[owner]
        if site.plan.grid:
            yield Share(
                account=account, owner=owner, shares=1000.0, priority=500.0 + 10.0 * held, held=float(held),
                used_seconds=float(held * _DAY),
            )  # fmt: skip
        else:
            mates = sum(each == account for _, each, _ in site.plan.owners)
            yield Share(
                account=account, owner=owner, shares=1.0, entitled=1 / mates, used_seconds=float(held * _DAY),
                used=held / max(1, by_account[account]), factor=1 - rank / len(ranked),
            )  # fmt: skip


def _reservations(site: Site) -> Iterator[Reservation]:
    """Yield a maintenance on Monday, and a course that has a GPU worker each day from eight to sixteen UTC."""
    today = site.now // _DAY * _DAY
    monday = today + (4 - site.now // _DAY) % 7 * _DAY + 8 * 3600  # the first day of all was a Thursday
    monday += 7 * _DAY if monday + 4 * 3600 < site.now else 0
    gpus = [worker for worker in site.workers if worker.gpus]
    for name, begin, hours, workers, accounts, flags in (
        ("firmware", monday, 4, site.workers[-4:], (), ("MAINT", "SPEC_NODES")),
        ("course", today + 8 * 3600, 8, gpus[-1:], ("medical",), ("DAILY",)),
    ):
        end = begin + hours * 3600
        if not workers or end < site.now:
            continue
        yield Reservation(
            name=name,
            begins_at=utc(begin),
            ends_at=utc(end),
            active=begin <= site.now < end,
            workers=tuple(worker.name for worker in workers),
            cpus=float(sum(worker.cpus for worker in workers)),
            owners=("root",) if not accounts else (),
            accounts=accounts,
            flags=flags,
        )


def _licences(site: Site) -> Iterator[Licence]:
    running = sum(job.run is not None for job in site.jobs.values())
    for index, (name, total) in enumerate(_LICENCES.items()):
        yield Licence(name=name, total=float(total), used=float(min(total, running * (index + 1) // 200)), reserved=0.0)
