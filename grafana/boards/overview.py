"""Each cluster on one screen: what is wrong, who has it, who waits, what is broken. Of Prometheus alone."""

from pathlib import Path

import yaml

from grafana import variables
from grafana.columns import GREEN, ORANGE, RED, mappings
from grafana.figures import counts, number, ranking, tiles
from grafana.layout import board_of
from grafana.links import field, label, to
from grafana.look import renamed, step, table
from grafana.over_time import graph
from grafana.prometheus import FAILED, HOLDING, MAP, OUT, STATES, by_state, in_state, or_none, told, what_it_is
from grafana.queries import CLUSTER, Json, now, now_table, over_time
from history.vocabulary import FAILURES, FLAGS, WORKER_STATES

RULES = Path(__file__).parent.parent.parent / "rules" / "alerts.yml"
_C = f"{{{CLUSTER}}}"
_MEMORY, _MEMORY_USED = f"bbq_worker_memory_bytes{_C}", f"bbq_worker_memory_allocated_bytes{_C}"
_OVER = ("mean", "max", "lastNotNull")
"""What the pictures of use tell of the time range beside its end."""


def _alerts() -> str:
    groups = yaml.safe_load(RULES.read_text())["groups"]
    return "|".join(rule["alert"] for group in groups for rule in group["rules"])


def board() -> Json:
    """Return the board."""
    return board_of(
        "overview",
        "BBQ Overview",
        "Capacity, use and queue of each cluster; who has it, who waits, what fails, what is broken.",
        [variables.datasource(), variables.clusters()],
        [
            (None, 6, ((_wrong(), 9), (_unread(), 4), (_late(), 3), (_behind(), 4), (_workers_out(), 4))),
            (None, 6, ((_clusters(), 24),)),
            (None, 8, ((_cpus(), 12), (_jobs(), 12))),
            (None, 9, ((_memory(), 12), (_workers(), 12))),
            (None, 10, ((_who_has(), 8), (_who_waits(), 8), (_why(), 8))),
            (None, 9, ((_failures(), 8), (_broken(), 16))),
            (None, 3, ((_colours(), 24),)),
            (None, 10, ((_map(), 24),)),
        ],
    )


_LESSER = (
    'ALERTS{alertname="WaitsOverTarget",alertstate="firing"} and on (cluster, queue) '
    'ALERTS{alertname="WaitsFarOverTarget",alertstate="firing"}'
)
"""What says less of the same queue than another that fires; rules/alertmanager.yml inhibits it too."""


def _wrong() -> Json:
    fires = (
        'count by (alertname, severity, cluster) (ALERTS{alertstate="firing",cluster=~"$cluster|",'
        f'alertname=~"{_alerts()}"}} unless ({_LESSER}))'
    )
    return table(
        "What is wrong?",
        "Alerts of rules/ that fire, at the end of the time range; rules/README.md says what to do about each.",
        now_table(or_none(fires, "alertname", "none fires", "cluster_state:bbq_jobs:sum")),
        empty="BBQ's rules are not loaded, or not read",
        columns=("alert", "severity", "cluster", "times"),
        steps=(renamed({"alertname": "alert", "severity": "severity", "cluster": "cluster", "Value": "times"}),),
        more={"severity": {"mappings": [
            {"type": "value", "options": {
                "page": {"text": "page", "color": RED, "index": 0}, "ticket": {"text": "ticket", "color": ORANGE, "index": 1},
                "info": {"text": "info", "color": "text", "index": 2}}},
        ]}},
    )  # fmt: skip


def _unread() -> Json:
    return number(
        "Not read",
        "Schedds, queues and accounting whose newest poll failed.",
        now(f"count(bbq_source_up{_C} == 0) or 0 * count(bbq_source_up{_C})"),
        empty="Not read",
        levels=((None, "green"), (1, RED)),
        leads=("BBQ itself", to("self")),
    )


def _late() -> Json:
    return number(
        "Late",
        "Sources whose newest reading is older than three of its intervals: what depends on it is not shown any more.",
        now(
            f"count(time() - bbq_source_last_success_timestamp_seconds{_C} > 3 * bbq_source_interval_seconds{_C})"
            f" or 0 * count(bbq_source_up{_C})"
        ),
        empty="Not read",
        levels=((None, "green"), (1, RED)),
        leads=("BBQ itself", to("self")),
    )


def _behind() -> Json:
    return number(
        "History lag",
        "Age of the moment up to which everything that ended is stored.",
        now(f"max(bbq_history_lag_seconds{_C})"),
        empty="Not told",
        unit="s",
        levels=((None, "green"), (900, ORANGE), (3600, RED)),
        leads=("BBQ itself", to("self")),
    )


def _workers_out() -> Json:
    return number(
        "Workers out",
        "Workers that are down, drained or do not respond; those in maintenance or powered down are not counted.",
        now(f"count({OUT}) or 0 * count(bbq_worker_cpus{_C})"),
        empty="Not read",
        levels=((None, "green"), (1, ORANGE)),
    )


def _clusters() -> Json:
    asked = {
        "CPUs": f"sum by (cluster) (bbq_worker_cpus{_C})",
        "CPUs in use": _in_use("cpus"),
        "GPUs": f"sum by (cluster) (bbq_worker_gpus{_C})",
        "GPUs in use": _in_use("gpus"),
        "memory in use": f"sum by (cluster) ({_MEMORY_USED}) / sum by (cluster) {told(_MEMORY, _MEMORY_USED)}",
        **{state: f"sum by (cluster) (bbq_jobs{{{CLUSTER},{in_state(state)}}})" for state in STATES},
        "owners": f'count by (cluster) (count by (cluster, owner) (bbq_jobs{{{CLUSTER},owner!="(other)"}}))'
        f" + on (cluster) sum by (cluster) (bbq_owners_collapsed{_C})",
        "workers": f"count by (cluster) (bbq_worker_cpus{_C})",
        "workers out": f"count by (cluster) ({OUT}) or 0 * count by (cluster) (bbq_worker_cpus{_C})",
    }
    names = {f"Value #{chr(ord('A') + place)}": name for place, name in enumerate(asked)}
    links = {
        state: {"links": [{"title": f"Jobs that are {state}", "url": to("jobs", clusters=field("cluster"), state=states, when="any"),
                           "targetBlank": False}]}
        for state, states in STATES.items()
    }  # fmt: skip
    return table(
        "What has each cluster, and what is used of it?",
        "As of the newest reading, and added up below. What is in use is that of workers which tell it. A MIG slice counts as a GPU, as its scheduler counts "
        "it, shards and MPS do not. Owners are those with jobs in the queues.",
        *(now_table(expression) for expression in asked.values()),
        empty="No cluster has been read",
        columns=("cluster", *asked),
        steps=(step("merge"), renamed({"cluster": "cluster", **names})),
        more=links,
        # the sums go by the names that columns had before they were renamed
        sums=[value for value, name in names.items() if name in ("CPUs", "GPUs", *STATES, "workers", "workers out")],
    )


def _in_use(what: str) -> str:
    total, allocated = f"bbq_worker_{what}{_C}", f"bbq_worker_{what}_allocated{_C}"
    return f"sum by (cluster) ({allocated}) / sum by (cluster) {told(total, allocated)}"


def _cpus() -> Json:
    return graph(
        "CPUs in use",
        "CPUs that jobs hold, and how many there are, of workers that are down too.",
        over_time(f"sum by (cluster) (bbq_worker_cpus_allocated{_C})", "{{cluster}}"),
        over_time(f"sum(bbq_worker_cpus{_C})", "capacity"),
        empty="No worker has been read",
        stacked=True,
        lines=("capacity",),
        leads=("This cluster", to("overview", clusters=label("cluster"))),
        calcs=_OVER,
    )


def _memory() -> Json:
    return graph(
        "Memory in use",
        "Memory that jobs hold, and how much there is for them, of workers that are down too.",
        over_time(f"sum by (cluster) ({_MEMORY_USED})", "{{cluster}}"),
        over_time(f"sum({_MEMORY})", "capacity"),
        empty="No worker has been read",
        unit="bytes",
        stacked=True,
        lines=("capacity",),
        leads=("This cluster", to("overview", clusters=label("cluster"))),
        calcs=_OVER,
    )


def _workers() -> Json:
    return graph(
        "Workers by state",
        "Their base states, on one another, and as lines how many are draining, reserved and so on beside that.",
        over_time(f"sum by (state) (bbq_worker_state{_C})", "{{state}}"),
        over_time(f"sum by (flag) (bbq_worker_flag{_C})", "{{flag}}"),
        empty="No worker has been read",
        stacked=True,
        words=(*WORKER_STATES, *FLAGS),
        lines=FLAGS,
    )


def _jobs() -> Json:
    states = ("running", "finishing", "suspended", "pending", "held")
    return graph(
        "Jobs by state",
        "A task of an array is a job, and so is an HTCondor job that is not made yet.",
        over_time(f"sum by (state) (bbq_jobs{_C})", "{{state}}"),
        empty="No queue has been read",
        stacked=True,
        words=states,
        leads=("These jobs", to("jobs", state=label("state"), when="any")),
    )


def _who_has() -> Json:
    most = f"topk(10, sum by (owner) (bbq_jobs_cpus{{{CLUSTER},{HOLDING}}}) > 0)"
    return ranking(
        "Who has the CPUs?",
        "Owners by the CPUs that their jobs hold, at the end of the time range.",
        now(f"sort_desc({or_none(most, 'owner', '(nobody)', f'bbq_jobs{_C}')})", "{{owner}}"),
        empty="No queue has been read",
        by="owner",
        leads=("This owner", to("owner", owner=label("owner"))),
    )


def _who_waits() -> Json:
    most = f'topk(10, sum by (owner) (bbq_jobs{{{CLUSTER},state="pending"}}) > 0)'
    return ranking(
        "Who waits?",
        "Owners by their pending jobs.",
        now(f"sort_desc({or_none(most, 'owner', '(nobody)', f'bbq_jobs{_C}')})", "{{owner}}"),
        empty="No queue has been read",
        by="owner",
        leads=("Their pending jobs", to("jobs", owner=label("owner"), state="pending", when="any")),
    )


def _why() -> Json:
    reasons = f"topk(10, sum by (reason) (bbq_pending_jobs{_C}) > 0)"
    return ranking(
        "Why do they wait?",
        "Pending jobs by what they wait for, as their scheduler says.",
        now(f"sort_desc({or_none(reasons, 'reason', '(no job waits)', f'bbq_jobs{_C}')})", "{{reason}}"),
        empty="No queue has been read",
        by="reason",
        leads=("By queue", to("queues")),
    )


def _failures() -> Json:
    return graph(
        "Failures per hour",
        "Jobs that did not end well in the hour before, as accounting tells; neither cancelled nor preempted "
        "ones. The first that an owner has of a kind in a queue is not counted.",
        over_time(
            f"sum by (outcome) (increase(bbq_jobs_ended_total{{{CLUSTER},{FAILED}}}[1h]))",
            "{{outcome}}",
        ),
        empty="Nothing has failed",
        stacked=True,
        narrow=True,
        words=FAILURES,
        leads=("These jobs", to("jobs", outcome=label("outcome"), when="ended")),
    )


def _broken() -> Json:
    return table(
        "Which workers are out of service?",
        "Workers that are down, drained or do not respond, since when and why.",
        now_table(or_none(f"({what_it_is()} and on (cluster, worker) ({OUT}))", "cluster", "", f"bbq_worker_cpus{_C}")),
        now_table(
            f"1000 * max by (cluster, worker) (bbq_worker_state_since_timestamp_seconds{_C}) and on (cluster, worker) ({OUT})"
        ),
        now_table(f"max by (cluster, worker, reason) (bbq_worker_reason_info{_C}) and on (cluster, worker) ({OUT})"),
        empty="No worker has been read",
        columns=("cluster", "worker", "is", "since", "reason"),
        steps=(
            step("merge"),
            renamed(
                {"cluster": "cluster", "worker": "worker", "Value #A": "is", "Value #B": "since", "reason": "reason"},
                without=("Time", "Value #C"),
            ),
        ),
        more={
            "is": {
                "mappings": mappings({"0": ("all take jobs", GREEN), **MAP}),
                "custom.displayMode": "color-text",
                "custom.align": "left",
            }
        },
        sort=("since", True),
    )


def _colours() -> Json:
    return counts(
        "How many workers are what?",
        "The colours of the map below; of several words, as draining and full, the one that weighs most.",
        now(by_state(), "{{state}}"),
        empty="No worker has been read",
        words=dict(MAP.values()),
    )


def _map() -> Json:
    return tiles(
        "All workers",
        "A tile each, by name. Green is idle, blue in use (dark: full), yellow reserved, orange draining, red down or not "
        "responding, purple unknown, grey planned: in maintenance or powered down.",
        now_table(what_it_is()),
        empty="No worker has been read",
        words=MAP,
        leads=('${__data.fields["worker"]}', to("worker", clusters=field("cluster"), worker=field("worker"))),
        by="worker",
    )
