"""When each alert fires, when it stays silent, and that it is silent who is blind: written out for promtool.

python -m tests.alert_cases        writes rules/tests/alerts.yml
"""

from pathlib import Path
from typing import Any, NamedTuple

import yaml

FOLDER = Path(__file__).parent.parent / "rules" / "tests"
Series = dict[str, str]
"""Values by series, a minute apart, in promtool's short form: `a+bxn`, `axn`, `_` for none."""
BLIND_MINUTES = 2
"""How long BBQ has been blind when an alert that would have fired is looked for."""


class Case(NamedTuple):
    """One alert."""

    fires: Series
    minutes: int
    labels: tuple[dict[str, str], ...]
    """Of the alerts that fire then."""
    silent: Series
    blind: bool = True
    """Whether it has to be silent for want of data; two are about just that."""


_C = 'cluster="c"'
_W = f'{_C},worker="w"'
_C_LABELS: tuple[dict[str, str], ...] = ({"cluster": "c"},)
_W_LABELS: tuple[dict[str, str], ...] = ({"cluster": "c", "worker": "w"},)
_Q_LABELS: tuple[dict[str, str], ...] = ({"cluster": "c", "queue": "q"},)
_S = f'{_C},source="jobs"'
_S_LABELS: tuple[dict[str, str], ...] = ({"cluster": "c", "source": "jobs"},)


def _many(count: int, form: str, values: str) -> Series:
    return {form.format(number): values for number in range(count)}


CASES: dict[str, Case] = {
    "BBQDown": Case({'up{job="bbq",instance="i"}': "0x30"}, 10, ({"instance": "i", "job": "bbq"},), {'up{job="bbq",instance="i"}': "1x30"}, blind=False),
    "BBQSourceDown": Case({f"bbq_source_up{{{_S}}}": "0x30"}, 10, _S_LABELS, {f"bbq_source_up{{{_S}}}": "1x30"}),
    "BBQPolicySourceDown": Case(
        {'bbq_source_up{cluster="c",source="shares"}': "0x30"}, 20, ({"cluster": "c", "source": "shares"},),
        {'bbq_source_up{cluster="c",source="shares"}': "1x30"},
    ),
    "BBQSourceStale": Case(
        {f"bbq_source_up{{{_S}}}": "1x30", f"bbq_source_interval_seconds{{{_S}}}": "60x30", f"bbq_source_last_success_timestamp_seconds{{{_S}}}": "0x30"},
        10, _S_LABELS,
        {f"bbq_source_up{{{_S}}}": "1x30", f"bbq_source_interval_seconds{{{_S}}}": "60x30", f"bbq_source_last_success_timestamp_seconds{{{_S}}}": "0+60x30"},
    ),
    "BBQSourceSlow": Case(
        {f"bbq_source_poll_duration_seconds{{{_S}}}": "40x30", f"bbq_source_interval_seconds{{{_S}}}": "60x30"}, 20, _S_LABELS,
        {f"bbq_source_poll_duration_seconds{{{_S}}}": "20x30", f"bbq_source_interval_seconds{{{_S}}}": "60x30"},
    ),
    "BBQHistoryDown": Case({"bbq_history_up": "0x30"}, 10, ({},), {"bbq_history_up": "1x30"}),
    "BBQHistoryLag": Case({f"bbq_history_lag_seconds{{{_C}}}": "1000+60x40"}, 20, _C_LABELS, {f"bbq_history_lag_seconds{{{_C}}}": "70x40"}),
    "BBQHistoryGap": Case({f"bbq_history_missing_jobs{{{_C}}}": "3x30"}, 5, _C_LABELS, {f"bbq_history_missing_jobs{{{_C}}}": "0x30"}),
    "BBQRecordsLost": Case({f"bbq_history_gap_seconds{{{_S}}}": "0x5 600x60"}, 15, _S_LABELS, {f"bbq_history_gap_seconds{{{_S}}}": "600x60"}),
    "BBQNotVerified": Case(
        {f"bbq_history_last_verified_timestamp_seconds{{{_C}}}": "-190000x30"}, 5, _C_LABELS,
        {f"bbq_history_last_verified_timestamp_seconds{{{_C}}}": "-90000x30"},
    ),
    "BBQSpoolFilling": Case(
        {"bbq_history_spool_bytes": "600x30", "bbq_history_spool_limit_bytes": "1000x30"}, 10, ({},),
        {"bbq_history_spool_bytes": "100x30", "bbq_history_spool_limit_bytes": "1000x30"},
    ),
    "BBQSpoolPiecesAside": Case({"bbq_history_spool_aside_pieces": "0x5 2x30"}, 10, ({},), {"bbq_history_spool_aside_pieces": "0x30"}),
    "BBQRowsSetAside": Case({f"bbq_history_set_aside_rows_total{{{_S}}}": "0x5 2x60"}, 15, _S_LABELS, {f"bbq_history_set_aside_rows_total{{{_S}}}": "2x60"}),
    "BBQUnknownValue": Case(
        {f'bbq_unknown_values_total{{{_C},field="slurm_job_state"}}': "0x5 2x60"}, 15, ({"cluster": "c", "field": "slurm_job_state"},),
        {f'bbq_unknown_values_total{{{_C},field="slurm_job_state"}}': "2x60"},
    ),
    "BBQInternalError": Case(
        {'bbq_internal_errors_total{part="spool"}': "0x5 2x60"}, 15, ({"part": "spool"},), {'bbq_internal_errors_total{part="spool"}': "2x60"}
    ),
    "BBQManySeries": Case(
        {"bbq_series": "900x30", "bbq_series_limit": "1000x30"}, 15, ({},), {"bbq_series": "500x30", "bbq_series_limit": "1000x30"}
    ),
    "WorkerDown": Case(
        {f'bbq_worker_state{{{_W},state="down"}}': "1x30"}, 20, ({"cluster": "c", "worker": "w", "state": "down"},),
        # in maintenance, and powered down to save energy
        {f'bbq_worker_state{{{_W},state="down"}}': "1x30", f'bbq_worker_flag{{{_W},flag="maintenance"}}': "1x30",
         'bbq_worker_state{cluster="c",worker="v",state="down"}': "1x30", 'bbq_worker_flag{cluster="c",worker="v",flag="powered_down"}': "1x30"},
    ),
    "CapacityLost": Case(
        {**_many(9, 'bbq_worker_cpus{{cluster="c",worker="v{}"}}', "64x30"),
         f"bbq_worker_cpus{{{_W}}}": "128x30", f'bbq_worker_state{{{_W},state="down"}}': "1x30"},
        15, _C_LABELS,
        {**_many(9, 'bbq_worker_cpus{{cluster="c",worker="v{}"}}', "64x30"),
         f"bbq_worker_cpus{{{_W}}}": "128x30", f'bbq_worker_state{{{_W},state="down"}}': "1x30", f'bbq_worker_flag{{{_W},flag="powered_down"}}': "1x30"},
    ),
    "WorkerDrainedLong": Case(
        {f"bbq_worker_state_since_timestamp_seconds{{{_W}}}": "-90000x120", f'bbq_worker_flag{{{_W},flag="draining"}}': "1x120"}, 70, _W_LABELS,
        {f"bbq_worker_state_since_timestamp_seconds{{{_W}}}": "-90000x120", f'bbq_worker_flag{{{_W},flag="draining"}}': "1x120", f'bbq_worker_flag{{{_W},flag="maintenance"}}': "1x120"},
    ),
    "BlackHoleWorker": Case(
        {f'bbq_worker_runs_ended_total{{{_W},outcome="failed"}}': "0+3x60", f'bbq_worker_runs_ended_total{{{_W},outcome="completed"}}': "0x60",
         **_many(5, 'bbq_worker_runs_ended_total{{cluster="c",worker="v{}",outcome="completed"}}', "0+1x60"),
         **_many(5, 'bbq_worker_runs_ended_total{{cluster="c",worker="v{}",outcome="failed"}}', "0x60")},
        45, _W_LABELS,
        # a campaign of failing jobs fails everywhere
        {**_many(6, 'bbq_worker_runs_ended_total{{cluster="c",worker="v{}",outcome="failed"}}', "0+3x60")},
    ),
    "QueueStuck": Case(
        {'bbq_pending_jobs{cluster="c",queue="q",reason="priority"}': "9x90", 'bbq_queue_cpus{cluster="c",queue="q"}': "100x90",
         'bbq_queue_cpus_allocated{cluster="c",queue="q"}': "50x90", 'bbq_queue_cpus_unusable{cluster="c",queue="q",reason="down"}': "10x90",
         'bbq_jobs_started_total{cluster="c",queue="q",owner="a"}': "7x90"},
        60, _Q_LABELS,
        # what waits depends on others, or no CPU is free
        {'bbq_pending_jobs{cluster="c",queue="q",reason="dependency"}': "9x90", 'bbq_queue_cpus{cluster="c",queue="q"}': "100x90",
         'bbq_queue_cpus_allocated{cluster="c",queue="q"}': "50x90", 'bbq_queue_cpus_unusable{cluster="c",queue="q",reason="down"}': "10x90",
         'bbq_jobs_started_total{cluster="c",queue="q",owner="a"}': "7x90",
         'bbq_pending_jobs{cluster="c",queue="full",reason="resources"}': "9x90", 'bbq_queue_cpus{cluster="c",queue="full"}': "100x90",
         'bbq_queue_cpus_allocated{cluster="c",queue="full"}': "100x90", 'bbq_queue_cpus_unusable{cluster="c",queue="full",reason="down"}': "0x90",
         'bbq_jobs_started_total{cluster="c",queue="full",owner="a"}': "7x90"},
    ),
    "StartsStopped": Case(
        {'bbq_jobs_started_total{cluster="c",queue="q",owner="a"}': "0+10x600 6000x200", 'bbq_pending_jobs{cluster="c",queue="q",reason="priority"}': "9x800"},
        680, _C_LABELS,
        {'bbq_jobs_started_total{cluster="c",queue="q",owner="a"}': "0+10x800", 'bbq_pending_jobs{cluster="c",queue="q",reason="priority"}': "9x800"},
    ),
    "HeldSurge": Case(
        {'bbq_jobs{cluster="c",owner="a",state="held"}': "5x20 100x40", 'bbq_jobs{cluster="c",owner="a",state="running"}': "500x60"}, 30, _C_LABELS,
        {'bbq_jobs{cluster="c",owner="a",state="held"}': "100x60", 'bbq_jobs{cluster="c",owner="a",state="running"}': "500x60"},
    ),
    "FailureSurge": Case(
        {**_many(6, 'bbq_jobs_ended_total{{cluster="c",queue="q",owner="o{}",outcome="failed"}}', "0+1x90"),
         'bbq_jobs_ended_total{cluster="c",queue="q",owner="a",outcome="completed"}': "0+2x90"},
        80, _C_LABELS,
        # one owner's own fault
        {'bbq_jobs_ended_total{cluster="c",queue="q",owner="o",outcome="failed"}': "0+6x90",
         'bbq_jobs_ended_total{cluster="c",queue="q",owner="a",outcome="completed"}': "0+2x90"},
    ),
    "OwnerFailing": Case(
        {'bbq_jobs_ended_total{cluster="c",queue="q",owner="o",outcome="failed"}': "0+6x120"}, 100, ({"cluster": "c", "owner": "o"},),
        {'bbq_jobs_ended_total{cluster="c",queue="q",owner="o",outcome="failed"}': "0+1x120", 'bbq_jobs_ended_total{cluster="c",queue="q",owner="o",outcome="completed"}': "0+6x120"},
    ),
    "OwnerMonopolising": Case(
        {'bbq_jobs_cpus{cluster="c",queue="q",owner="a",state="running"}': "80x200", 'bbq_jobs_cpus{cluster="c",queue="q",owner="b",state="running"}': "20x200",
         'bbq_jobs{cluster="c",queue="q",owner="a",state="pending"}': "1x200", 'bbq_jobs{cluster="c",queue="q",owner="b",state="pending"}': "1x200"},
        150, ({"cluster": "c", "queue": "q", "owner": "a"},),
        {'bbq_jobs_cpus{cluster="c",queue="q",owner="a",state="running"}': "80x200", 'bbq_jobs_cpus{cluster="c",queue="q",owner="b",state="running"}': "20x200",
         'bbq_jobs{cluster="c",queue="q",owner="a",state="pending"}': "1x200"},
    ),
    "WaitsFarOverTarget": Case(
        {'bbq_job_wait_seconds_bucket{cluster="c",queue="q",le="14400.0"}': "0+1x500", 'bbq_job_wait_seconds_count{cluster="c",queue="q"}': "0+4x500"}, 420, _Q_LABELS,
        {'bbq_job_wait_seconds_bucket{cluster="c",queue="q",le="14400.0"}': "0+3x500", 'bbq_job_wait_seconds_count{cluster="c",queue="q"}': "0+4x500"},
    ),
    "WaitsOverTarget": Case(
        {'bbq_job_wait_seconds_bucket{cluster="c",queue="q",le="14400.0"}': "0+2x500", 'bbq_job_wait_seconds_count{cluster="c",queue="q"}': "0+4x500"}, 420, _Q_LABELS,
        {'bbq_job_wait_seconds_bucket{cluster="c",queue="q",le="14400.0"}': "0+9x500", 'bbq_job_wait_seconds_count{cluster="c",queue="q"}': "0+10x500"},
    ),
    "OldestPending": Case(
        {'bbq_pending_oldest_submit_timestamp_seconds{cluster="c",queue="q"}': "-700000x90"}, 70, _Q_LABELS,
        {'bbq_pending_oldest_submit_timestamp_seconds{cluster="c",queue="q"}': "-7000x90"},
    ),
    "GPUIdleWhilePending": Case(
        {'bbq_worker_gpus{cluster="c",worker="w",model="a100"}': "4x60", 'bbq_worker_gpus_allocated{cluster="c",worker="w",model="a100"}': "2x60", 'bbq_jobs_gpus{cluster="c",owner="a",state="pending"}': "8x60"},
        40, _C_LABELS,
        {'bbq_worker_gpus{cluster="c",worker="w",model="a100"}': "4x60", 'bbq_worker_gpus_allocated{cluster="c",worker="w",model="a100"}': "2x60", 'bbq_jobs_gpus{cluster="c",owner="a",state="pending"}': "8x60",
         'bbq_worker_flag{cluster="c",worker="w",flag="reserved"}': "1x60"},
    ),
    "LicencesUsedUp": Case(
        {'bbq_licences{cluster="c",licence="x"}': "4x90", 'bbq_licences_used{cluster="c",licence="x"}': "4x90"}, 70, ({"cluster": "c", "licence": "x"},),
        # one is free, and of another there are none at all
        {'bbq_licences{cluster="c",licence="x"}': "4x90", 'bbq_licences_used{cluster="c",licence="x"}': "3x90",
         'bbq_licences{cluster="c",licence="y"}': "0x90", 'bbq_licences_used{cluster="c",licence="y"}': "0x90"},
    ),
    "QuotaUsedUpWhileIdle": Case(
        {'bbq_group_quota_cpus{cluster="c",group="g"}': "40x90", 'bbq_group_quota_cpus_used{cluster="c",group="g"}': "40x90",
         'bbq_pending_jobs{cluster="c",queue="q",reason="limit"}': "5x90",
         f"bbq_worker_cpus{{{_W}}}": "100x90", f"bbq_worker_cpus_allocated{{{_W}}}": "50x90"},
        70, ({"cluster": "c", "group": "g"},),
        # the pool is full
        {'bbq_group_quota_cpus{cluster="c",group="g"}': "40x90", 'bbq_group_quota_cpus_used{cluster="c",group="g"}': "40x90",
         'bbq_pending_jobs{cluster="c",queue="q",reason="limit"}': "5x90",
         f"bbq_worker_cpus{{{_W}}}": "100x90", f"bbq_worker_cpus_allocated{{{_W}}}": "90x90"},
    ),
    "SlurmdbdQueueGrowing": Case(
        {f'bbq_scheduler_queue_length{{{_C},queue="dbd_agent"}}': "100+50x40"}, 30, ({"cluster": "c", "queue": "dbd_agent"},),
        {f'bbq_scheduler_queue_length{{{_C},queue="dbd_agent"}}': "2000-50x40"},
    ),
    "SlurmctldSlow": Case(
        {f'bbq_scheduler_cycle_seconds{{{_C},cycle="main"}}': "8x30"}, 15, ({"cluster": "c", "cycle": "main"},),
        {f'bbq_scheduler_cycle_seconds{{{_C},cycle="main"}}': "0.2x30", f'bbq_scheduler_cycle_seconds{{{_C},cycle="backfill"}}': "60x30", f"bbq_scheduler_threads{{{_C}}}": "20x30"},
    ),
    "NegotiatorSlow": Case(
        # the negotiator has stopped: its ad is gone, and with it its series
        {f'bbq_scheduler_cycle_end_timestamp_seconds{{{_C},cycle="negotiation"}}': "0x5", f'bbq_source_up{{{_C},source="scheduler"}}': "1x60"}, 40, ({"cluster": "c", "cycle": "negotiation"},),
        {f'bbq_scheduler_cycle_end_timestamp_seconds{{{_C},cycle="negotiation"}}': "0+60x60", f'bbq_scheduler_cycle_seconds{{{_C},cycle="negotiation"}}': "20x60", f'bbq_source_up{{{_C},source="scheduler"}}': "1x60"},
    ),
    "ScheddOverloaded": Case(
        {f'bbq_scheduler_duty_cycle_ratio{{{_C},daemon="s1"}}': "0.99x30"}, 20, ({"cluster": "c", "daemon": "s1"},),
        {f'bbq_scheduler_duty_cycle_ratio{{{_C},daemon="s1"}}': "0.5x30", f'bbq_scheduler_duty_cycle_ratio{{{_C},daemon="collector"}}': "0.99x30"},
    ),
}  # fmt: skip


def written(rules: Path) -> str:
    """Return the whole of rules/tests/alerts.yml."""
    alerts = {rule["alert"]: rule for group in yaml.safe_load(rules.read_text())["groups"] for rule in group["rules"]}
    tests = [test for name in alerts for test in _tests(name, CASES[name], alerts[name])]
    about = (
        "# Written by `python -m tests.alert_cases`: each alert fires, stays silent, and stays silent who is blind.\n"
    )
    head = {"rule_files": ["../recording.yml", "../alerts.yml"], "evaluation_interval": "1m"}
    return about + yaml.safe_dump({**head, "tests": tests}, sort_keys=False, width=160)


def _tests(name: str, case: Case, alert: Any) -> list[dict[str, Any]]:
    found = [
        _test(
            f"{name} fires", case.fires, case.minutes, name, [{**labels, **alert["labels"]} for labels in case.labels]
        ),
        _test(f"{name} stays silent", case.silent, case.minutes, name, []),
    ]
    if case.blind:
        seen = {series: _until_blind(values, case.minutes - BLIND_MINUTES) for series, values in case.fires.items()}
        found.append(_test(f"{name} is silent who is blind", seen, case.minutes, name, []))
    return found


def _test(title: str, series: Series, minutes: int, name: str, firing: list[dict[str, str]]) -> dict[str, Any]:
    alerts = f'ALERTS{{alertname="{name}",alertstate="firing"'
    samples = [
        {"labels": alerts + "".join(f',{key}="{value}"' for key, value in sorted(each.items())) + "}", "value": 1}
        for each in firing
    ]
    return {
        "name": title,
        "interval": "1m",
        "input_series": [{"series": each, "values": values} for each, values in series.items()],
        "promql_expr_test": [{"expr": alerts + "}", "eval_time": f"{minutes}m", "exp_samples": samples}],
    }


def _until_blind(values: str, minutes: int) -> str:
    """Return the same values for so many minutes, and then none: the source is stale."""
    kept: list[str] = []
    for segment in values.split():
        form, _, count = segment.partition("x")
        here = min(int(count), minutes)
        kept.append(f"{form}x{here}")
        minutes -= here + 1
        if minutes <= 0:
            break
    return " ".join([*kept, "stale"])


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    (FOLDER / "alerts.yml").write_text(written(FOLDER.parent / "alerts.yml"))
