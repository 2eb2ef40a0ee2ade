"""From a name to its page, and from a number to its rows: where links lead, and what they take along."""

from collections.abc import Mapping, Sequence

_TIME = "${__url_time_range}"
VALUE = "${__value.raw:percentencode}"
"""The value of the cell or bar that is clicked."""
_CLUSTERS = "${cluster:queryparam}"


def field(name: str) -> str:
    """Return the value of another column of the same row."""
    return f'${{__data.fields["{name}"]:percentencode}}'


def label(name: str) -> str:
    """Return a label of the series that is clicked."""
    return f"${{__field.labels.{name}:percentencode}}"


def to(board: str, *, clusters: str | None = None, keep: Sequence[str] = (), **variables: str | Sequence[str]) -> str:
    """Return the address of a board with this time range, the chosen clusters (or those named) and variables.

    Args:
        keep: variables that it has as they are chosen here.
    """
    parts = [_TIME, _CLUSTERS if clusters is None else f"var-cluster={clusters}"]
    parts.extend(f"${{{name}:queryparam}}" for name in keep)
    for name, value in variables.items():
        parts.extend(f"var-{name}={each}" for each in ([value] if isinstance(value, str) else value))
    return f"/d/bbq-{board}?{'&'.join(parts)}"


def job() -> str:
    """Return the address of a job's page, with its life as the time range; from the hidden columns of LIFE."""
    at = {name: f"${{__data.fields.{name}}}" for name in LIFE}
    when = f"from={at['from']}&to={at['to']}"
    return f"/d/bbq-job?{when}&var-cluster={field('cluster')}&var-job={at['key']}&var-submitted={at['at']}"


LIFE = ("key", "at", "from", "to")
"""Hidden columns of a table of jobs: id and submission as the job's page takes them, and its life in milliseconds."""


def life(table: str = "") -> str:
    """Return the SQL of these columns.

    Newer Grafanas decode a link before they follow it: what has a meaning in addresses is written as something else,
    and the job's page writes it back.
    """
    dot = f"{table}." if table else ""
    return (
        f"translate({dot}native_id, '#+', '~!') AS key, extract(epoch FROM {dot}submitted_at)::bigint::text AS at,\n"
        f'  (1000 * (extract(epoch FROM {dot}submitted_at)::bigint - 60))::text AS "from",'
        f' (1000 * (extract(epoch FROM coalesce({dot}ended_at, now()))::bigint + 60))::text AS "to"'
    )


COLUMNS: Mapping[str, tuple[str, str]] = {
    "cluster": ("This cluster's overview", to("overview", clusters=VALUE)),
    "owner": ("This owner", to("owner", owner=VALUE)),
    "account": ("Jobs of this account", to("jobs", account=VALUE)),
    "vo": ("Jobs of this VO", to("jobs", vo=VALUE)),
    "queue": ("This queue", to("queues", queue=VALUE)),
    "worker": ("This worker", to("worker", worker=VALUE)),
    "job": ("This job", job()),
}
"""Where a cell leads, by the name of its column; the title of the link, and its address."""


def of_row(url: str) -> str:
    """Return an address with the cluster of the row in place of those that are chosen: the table has it."""
    return url.replace(_CLUSTERS, f"var-cluster={field('cluster')}")
