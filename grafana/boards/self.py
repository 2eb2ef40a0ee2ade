"""BBQ itself, and the schedulers' own health: what is read, how long it takes, what is stored. Of Prometheus alone."""

from grafana import variables
from grafana.columns import ORANGE, RED, link
from grafana.figures import number
from grafana.layout import board_of
from grafana.links import label, to
from grafana.look import renamed, step, table
from grafana.over_time import graph
from grafana.queries import CLUSTER, Json, now, now_table, over_time

_C = f"{{{CLUSTER}}}"
_RATE = "[$__rate_interval]"


def board() -> Json:
    """Return the board."""
    return board_of(
        "self",
        "BBQ itself",
        "Is everything read and stored, and how do the schedulers do?",
        [variables.datasource(), variables.clusters()],
        [
            ("Sources", 12, ((_sources(), 24),)),
            ("Sources", 9, ((_durations(), 12), (_calls(), 6), (_errors(), 6))),
            ("History", 4, ((_up(), 4), (_missing(), 4), (_lost(), 4), (_verified(), 4), (_spooled(), 3), (_not_understood(), 5))),
            ("History", 11, ((_lag(), 12), (_rows(), 12))),
            ("Schedulers", 8, ((_cycles(), 12), (_busy(), 12))),
            ("Schedulers", 8, ((_queues(), 12), (_backfilled(), 12))),
            ("Schedulers", 8, ((_rpcs(), 12), (_callers(), 12))),
            ("This exporter", 8, ((_series(), 15), (_dropped(), 9))),
        ],
    )  # fmt: skip


def _sources() -> Json:
    by = "by (cluster, source)"
    asked = {
        "read": f"min {by} (bbq_source_up{_C})",
        "age": f"time() - max {by} (bbq_source_last_success_timestamp_seconds{_C})",
        "every": f"max {by} (bbq_source_interval_seconds{_C})",
        "took": f"max {by} (bbq_source_poll_duration_seconds{_C})",
        "failed polls": f"sum {by} (bbq_source_errors_total{_C}) or 0 * sum {by} (bbq_source_up{_C})",
        "calls since start": f"sum {by} (bbq_source_calls_total{_C})",
    }
    names = {f"Value #{chr(ord('A') + place)}": name for place, name in enumerate(asked)}
    words = [
        {
            "type": "value",
            "options": {
                "0": {"text": "failed", "color": RED, "index": 0},
                "1": {"text": "well", "color": "green", "index": 1},
            },
        }
    ]
    return table(
        "Is everything read?",
        "A line a source: whether its newest poll was well, how old what is shown is, how often it is read and how long "
        "that took; polls that failed and calls to the scheduler since this exporter started.",
        *(now_table(expression) for expression in asked.values()),
        empty="Not read",
        columns=("cluster", "source", *asked),
        steps=(step("merge"), renamed({"cluster": "cluster", "source": "source", **names})),
        more={"read": {"mappings": words, "custom.displayMode": "color-text", "custom.align": "left"}},
        sort=("age", True),
    )  # fmt: skip


def _durations() -> Json:
    return graph(
        "How long does reading take?",
        "The newest poll of each source. Above half of its interval, BBQ asks less often.",
        over_time(f"bbq_source_poll_duration_seconds{_C}", "{{cluster}} {{source}}"),
        narrow=True,
        empty="Not read in this time",
        unit="s",
    )


def _calls() -> Json:
    return graph(
        "Calls made, a minute",
        "All that BBQ asks of the schedulers.",
        over_time(f"60 * sum by (cluster) (rate(bbq_source_calls_total{_C}{_RATE}))", "{{cluster}}"),
        narrow=True,
        empty="Not read in this time",
    )


def _errors() -> Json:
    return graph(
        "Polls that failed, an hour",
        "By what went wrong.",
        over_time(f"3600 * sum by (reason) (rate(bbq_source_errors_total{_C}{_RATE})) > 0", "{{reason}}"),
        narrow=True,
        empty="No poll failed in this time",
    )


def _up() -> Json:
    return number(
        "Database",
        "Whether the newest write succeeded; while it does not, what is read waits in the spool.",
        now("min(bbq_history_up)"),
        empty="Not read",
        unit="none",
        words={"0": ("away", RED), "1": ("well", "green")},
    )


def _missing() -> Json:
    return number(
        "Jobs missing",
        "That accounting has and the history has not, as the newest verification found; bbq-exporter recollect mends it.",
        now(f"sum(bbq_history_missing_jobs{_C})"),
        empty="Not verified",
        levels=((None, "green"), (1, RED)),
    )


def _lost() -> Json:
    return number(
        "Losses",
        "Time of which something was lost before it was read, of all sources together; bbq status and collections.gaps tell more.",
        now(f"sum(bbq_history_gap_seconds{_C})"),
        empty="Not told",
        unit="s",
        levels=((None, "green"), (1, ORANGE)),
    )


def _verified() -> Json:
    return number(
        "Last verified",
        "Each night the day before is compared with accounting: the cluster for which that was longest ago.",
        now(f"1000 * min(bbq_history_last_verified_timestamp_seconds{_C})"),
        empty="Not verified",
        unit="dateTimeFromNow",
    )


def _spooled() -> Json:
    return number(
        "Spool",
        "Part of the spool that is full.",
        now("max(bbq_history_spool_bytes / bbq_history_spool_limit_bytes)"),
        empty="Not told",
        unit="percentunit",
        levels=((None, "green"), (0.2, ORANGE), (0.5, RED)),
    )


def _not_understood() -> Json:
    counters = {"rows set aside": "bbq_history_set_aside_rows_total", "odd words": "bbq_unknown_values_total"}
    return number(
        "Not understood",
        "In the time range: rows that could not be understood or stored, which are kept raw in set_aside; and words of a "
        "scheduler's that this BBQ does not know, which the log names.",
        *(
            now(f"sum(increase({counter}{_C}[$__range])) or 0 * count(bbq_source_up{_C})", name)
            for name, counter in counters.items()
        ),
        empty="Not read",
        levels=((None, "green"), (1, ORANGE)),
    )


def _lag() -> Json:
    return graph(
        "How far is the history behind?",
        "Age of the moment up to which everything that ended is stored.",
        over_time(f"bbq_history_lag_seconds{_C}", "{{cluster}}"),
        empty="Nothing was stored in this time",
        unit="s",
    )


def _rows() -> Json:
    return graph(
        "Rows written, a second",
        "Inserted, replaced or deleted, by table.",
        over_time(f"sum by (table) (rate(bbq_history_rows_written_total{_RATE}))", "{{table}}"),
        narrow=True,
        empty="Nothing was written in this time",
        unit="short",
        stacked=True,
    )


def _cycles() -> Json:
    return graph(
        "How long are cycles?",
        "Main and backfill of slurmctld, negotiation of HTCondor: the newest.",
        over_time(f"bbq_scheduler_cycle_seconds{_C}", "{{cluster}} {{cycle}}"),
        narrow=True,
        empty="No scheduler has told of a cycle",
        unit="s",
    )


def _busy() -> Json:
    return graph(
        "How busy are they?",
        "HTCondor's daemons, as parts of their time; slurmctld's threads, as parts of the 256 there are.",
        over_time(f"bbq_scheduler_duty_cycle_ratio{_C}", "{{cluster}} {{daemon}}"),
        over_time(f"bbq_scheduler_threads{_C} / 256", "{{cluster}} slurmctld"),
        narrow=True,
        empty="No scheduler has told",
        unit="percentunit",
    )


def _queues() -> Json:
    return graph(
        "Messages not sent yet",
        "Of slurmctld, to nodes (agent) and to slurmdbd (dbd_agent): when that grows, accounting is behind.",
        over_time(f"bbq_scheduler_queue_length{_C}", "{{cluster}} {{queue}}"),
        narrow=True,
        empty="No slurmctld has told",
    )


def _backfilled() -> Json:
    return graph(
        "Backfilled jobs, an hour",
        "Jobs that slurmctld's backfill started in the hour before each moment.",
        over_time(f"sum by (cluster) (increase(bbq_scheduler_backfilled_jobs_total{_C}[1h]))", "{{cluster}}"),
        narrow=True,
        empty="No slurmctld has told",
    )


def _series() -> Json:
    return graph(
        "Series on the metrics page",
        "And how many the configuration allows.",
        over_time("sum(bbq_series)", "series"),
        over_time("sum(bbq_series_limit)", "allowed"),
        over_time(f"sum(bbq_owners_collapsed{_C})", "owners in (other)"),
        narrow=True,
        empty="Not read in this time",
        lines=("allowed",),
    )


def _rpcs() -> Json:
    return _time_of_slurmctld(
        "What slurmctld spends its time on", "message type", "rpc", "bbq_scheduler_rpc_seconds_total"
    )


def _callers() -> Json:
    panel = _time_of_slurmctld(
        "Who makes slurmctld work?", "who made the calls", "owner", "bbq_scheduler_owner_rpc_seconds_total"
    )
    panel["fieldConfig"]["defaults"]["links"] = [link("This owner", to("owner", owner=label("owner")))]
    return panel


def _time_of_slurmctld(title: str, by: str, name: str, counter: str) -> Json:
    spent = f"sum by ({name}) (rate({counter}{_C}{_RATE}"
    return graph(
        title,
        f"Part of a processor, by {by}: the eight that took most at the end of the time range.",
        over_time(f"{spent})) and on ({name}) topk(8, {spent} @ end())))", f"{{{{{name}}}}}"),
        empty="No slurmctld has told",
        unit="percentunit",
        stacked=True,
        calcs=("lastNotNull",),  # names of message types are long
    )


def _dropped() -> Json:
    return table(
        "Metrics left out",
        "For the page has more series than limits.series.",
        now_table("max by (family) (bbq_family_dropped == 1)"),
        empty="None",
        columns=("family",),
        steps=(
            step("organize", excludeByName={"Time": True, "Value": True}, renameByName={}, indexByName={"family": 0}),
        ),
    )
