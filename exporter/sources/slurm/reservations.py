"""What `scontrol show reservation` and `scontrol show licenses` say (22.05 to 26.05)."""

from collections.abc import Iterator, Mapping

from exporter.readings import UnknownValue
from exporter.sources import AnswerUnreadable
from exporter.sources.hostlist import hosts
from exporter.sources.slurm.tres import tres
from exporter.sources.units import NOTHING, Values, decoded, moment, pairs_of, real
from history.policies import Licence, Reservation

RESERVATIONS = ("--oneliner", "show", "reservation")
LICENCES = ("--oneliner", "show", "licenses")


def reservations(answer: bytes, unknown: list[UnknownValue]) -> list[Reservation]:
    """Return the reservations, those to come among them.

    Args:
        unknown: takes what can't be read.

    Raises:
        AnswerUnreadable: it is not what scontrol says of reservations.
    """
    return [
        found
        for pairs in _records(answer, "ReservationName", "No reservations in the system")
        if (found := _reservation(pairs, Values("slurm_reservation", pairs["ReservationName"], unknown))) is not None
    ]


def _reservation(pairs: Mapping[str, str], values: Values) -> Reservation | None:
    begins_at = values.read(moment, "StartTime", pairs.get("StartTime", ""))
    if begins_at is None:
        values.odd("a reservation without a beginning")
        return None
    state = pairs.get("State")
    return Reservation(
        name=pairs["ReservationName"],
        begins_at=begins_at,
        ends_at=values.read(moment, "EndTime", pairs.get("EndTime", "")),
        active=None if state is None else state == "ACTIVE",
        queue=_text(pairs, "PartitionName"),
        workers=values.read(hosts, "Nodes", _text(pairs, "Nodes") or "") or (),
        cpus=tres(pairs.get("TRES", "")).cpus,
        licences=_licences(pairs, values),
        owners=_list(pairs, "Users"),
        accounts=_list(pairs, "Accounts"),
        groups=_list(pairs, "Groups"),
        flags=_list(pairs, "Flags"),
    )


def _licences(pairs: Mapping[str, str], values: Values) -> dict[str, float]:
    """Return how many of each licence are reserved: `matlab:3,ansys`, or `matlab|ansys` where one of them will do."""
    found: dict[str, float] = {}
    for item in _list(pairs, "Licenses"):
        name, colon, number = item.replace("=", ":").rpartition(":")
        count = values.read(real, "Licenses", number) if colon else 1.0
        if count is not None:
            found[name if colon else item] = count
    return found


def licences(answer: bytes, unknown: list[UnknownValue]) -> list[Licence]:
    """Return the pools of licences.

    Args:
        unknown: takes what can't be read.

    Raises:
        AnswerUnreadable: it is not what scontrol says of licences.
    """
    found: list[Licence] = []
    for pairs in _records(answer, "LicenseName", "No licenses configured"):
        values = Values("slurm_licence", pairs["LicenseName"], unknown)
        total, used, reserved = (values.read(real, name, pairs.get(name, "")) for name in ("Total", "Used", "Reserved"))
        if total is None:
            values.odd("a licence without a total")
        else:
            found.append(Licence(name=pairs["LicenseName"], total=total, used=used, reserved=reserved))
    return found


def _records(answer: bytes, first: str, nothing: str) -> Iterator[dict[str, str]]:
    """Yield the keys and values of each line. Raises AnswerUnreadable."""
    for line in decoded(answer).splitlines():
        if line.startswith(nothing) or not line.strip():
            continue
        if not line.startswith(f"{first}="):
            raise AnswerUnreadable(f"scontrol: a line that does not begin with {first}: {line[:80]!r}")
        yield pairs_of(line)


def _text(pairs: Mapping[str, str], name: str) -> str | None:
    value = pairs.get(name, "")
    return None if value in NOTHING else value


def _list(pairs: Mapping[str, str], name: str) -> tuple[str, ...]:
    return tuple((_text(pairs, name) or "").split(",")) if _text(pairs, name) else ()
