"""The first line of a board: seen only when something of what it shows is not read, and says what."""

from collections.abc import Sequence

from grafana.figures import notice
from grafana.links import to
from grafana.queries import CLUSTER, Json, now, rows
from grafana.sql import among

_C = f"{{{CLUSTER}}}"
_UNREAD = (
    f"count(bbq_source_up{_C} == 0 or time() - bbq_source_last_success_timestamp_seconds{_C}"
    f" > 3 * bbq_source_interval_seconds{_C}) or 0 * count(bbq_source_up{_C})"
)
_AWAY = "min(bbq_history_up) == bool 0 or vector(0)"


def notices(variables: Sequence[Json]) -> tuple[tuple[Json, int], ...]:
    """Return the first line of a board that has these variables, each part with its width."""
    names = [variable["name"] for variable in variables]
    parts = [part() for name, part in (("datasource", of_prometheus), ("history", of_history)) if name in names]
    return tuple((part, 24 // len(parts)) for part in parts)


def of_prometheus() -> Json:
    """Tell that a source is not read, that the history is away, or that nothing is known at all."""
    return notice(
        now(f"clamp_max({_UNREAD}, 1) + 2 * ({_AWAY})"),
        {
            "1": "Some sources are not read: what is empty may be unknown. BBQ itself says which.",
            "2": "BBQ cannot write its history: what ended lately is not in it yet.",
            "3": "Some sources are not read, and BBQ cannot write its history. BBQ itself says more.",
        },
        # instant queries ask at the end of the time range, which may be in the future
        empty="Prometheus does not answer, has no BBQ, or has no such time yet.",
        leads=("BBQ itself", to("self")),
    )


def of_history() -> Json:
    """Tell that the history does not answer, or is not written."""
    return notice(
        rows(
            f"""SELECT CASE WHEN count(*) = 0 THEN 2 WHEN bool_or(late) THEN 1 ELSE 0 END AS "Value"
FROM (
  SELECT max(last_success_at) < now() - greatest(3 * max(interval_seconds), 900) * interval '1 s' AS late
  FROM collections WHERE {among("cluster")}
  GROUP BY cluster HAVING max(last_success_at) > now() - interval '31 days'
) AS clusters"""
        ),
        {
            "1": "The history is not written any more: what happened lately is not in it.",
            "2": "Nothing has been written into the history for 31 days, of these clusters.",
        },
        empty="The history does not answer: nothing is known here of what was.",
    )
