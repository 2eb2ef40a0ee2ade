"""What other exporters got wrong, entry by entry: the test of each, and those that have no other home.

The entries are the defects that users of such tools have reported; a new one is an entry here and a test.
"""

import re

import pytest

from exporter.sources.slurm import nodes
from history.records import Gpus
from history.vocabulary import WorkerFlag, WorkerState
from tests.places import TESTS
from tests.slurm_says import node

CORPUS = {
    "a pending job of several partitions": ["test_slurm::test_queue"],
    "the default partition": ["test_slurm::test_workers"],
    "an array of waiting tasks beside running ones": ["test_slurm::test_queue", "test_units::test_array_tasks"],
    "a held array": ["test_slurm::test_queue"],
    "a heterogeneous job": ["test_slurm::test_queue"],
    "a requeued job with two attempts": ["test_merge::test_a_requeue_is_another_run_of_the_same_job"],
    "a recycled job id": ["test_merge::test_after_any_other_end_the_id_is_recycled"],
    "cancelled before it started": ["test_slurm::test_accounting"],
    "steps: extern, interactive, batch": ["test_slurm::test_accounting"],
    "a node's name of over twenty characters": ["test_corpus::test_long_names_of_nodes"],
    "compound states of nodes, and flags to come": ["test_corpus::test_states_of_nodes"],
    "GPUs untyped, typed, MIG, shards, long": ["test_corpus::test_gpus_of_all_kinds", "test_units::test_tres"],
    "a user with a hyphen and a dot": ["test_slurm::test_names_cannot_forge_rows"],
    "names with |, commas, quotes, line breaks, other bytes": [
        "test_slurm::test_names_cannot_forge_rows", "test_commands::test_names_cannot_steer_the_terminal",
    ],
    "no reservations, no jobs": ["test_slurm::test_an_empty_queue_is_no_error_and_half_an_answer_is"],
    "a night of clock changes, a missing offset": [
        "test_slurm::test_times_do_not_depend_on_a_time_zone_or_on_a_night_of_clock_changes",
        "test_units::test_the_hour_that_a_clock_change_repeats_is_its_first",
    ],
    "memory of 1.50T, 0 and 16?": ["test_units::test_sizes"],
    "a suspended job": ["test_store::test_holding_and_suspending_are_periods"],
    "slurmctld down, slow, half an answer": [
        "test_live::test_what_goes_and_what_stays_when_a_part_is_away",
        "test_slurm::test_an_empty_queue_is_no_error_and_half_an_answer_is",
        "test_poller::test_pauses_grow_with_failures_and_with_slowness",
    ],
    "slurmdbd down": ["test_live::test_what_goes_and_what_stays_when_a_part_is_away"],
    "one schedd up, another hanging": ["test_live::test_what_goes_and_what_stays_when_a_part_is_away"],
    "a running job without a RemoteHost": ["test_htcondor::test_queue"],
    "an HTCondor job evicted and started again": ["test_htcondor::test_history_and_runs"],
    "a removed job": ["test_htcondor::test_removed_after_it_had_completed"],
    "a record that comes late": ["test_merge::test_an_earlier_attempt_that_comes_late_changes_the_jobs_key"],
}  # fmt: skip


def test_every_entry_has_its_test() -> None:
    for entry, tests in CORPUS.items():
        for each in tests:
            file, _, name = each.partition("::")
            assert re.search(rf"^def {name}\b", next(TESTS.rglob(f"{file}.py")).read_text(), re.MULTILINE), (
                entry,
                each,
            )


def test_long_names_of_nodes() -> None:
    name = "worker-with-a-very-long-name-0123.rack-42.cluster.example.org"
    (worker,), _ = nodes.workers(node(name))
    assert worker.name == name


@pytest.mark.parametrize(
    ("state", "base", "flags", "unknown"),
    [
        ("MIXED+DRAIN+PLANNED", WorkerState.PARTIAL, (WorkerFlag.DRAINING,), 0),
        ("IDLE+POWERED_DOWN", WorkerState.IDLE, (WorkerFlag.POWERED_DOWN,), 0),
        ("DOWN*+DRAIN", WorkerState.DOWN, (WorkerFlag.DRAINING, WorkerFlag.NOT_RESPONDING), 0),
        ("IDLE*", WorkerState.IDLE, (WorkerFlag.NOT_RESPONDING,), 0),
        ("ALLOCATED+MAINTENANCE+RESERVED", WorkerState.FULL, (WorkerFlag.MAINTENANCE, WorkerFlag.RESERVED), 0),
        ("IDLE+LEVITATING", WorkerState.IDLE, (), 1),
        ("SLEEPING", WorkerState.UNKNOWN, (), 1),
    ],
)
def test_states_of_nodes(state: str, base: WorkerState, flags: tuple[WorkerFlag, ...], unknown: int) -> None:
    (worker,), values = nodes.workers(node(state=state))
    assert (worker.state, set(worker.flags), len(values)) == (base, set(flags), unknown)
    assert worker.native_state == state


@pytest.mark.parametrize(
    ("gres", "used", "gpus"),
    [
        ("gpu:4(S:0-1)", "gpu:(null):1(IDX:0)", [("gpu", 4, 1)]),
        ("gpu:4", "gpu:0", [("gpu", 4, 0)]),
        ("gpu:a100:2,gpu:h100:1", "gpu:a100:1(IDX:0),gpu:h100:1(IDX:2)", [("a100", 2, 1), ("h100", 1, 1)]),
        (
            "gpu:nvidia_a100_1g.5gb:7(S:0),gpu:nvidia_a100_3g.20gb:2", "gpu:nvidia_a100_1g.5gb:3(IDX:0-2)",
            [("nvidia_a100_1g.5gb", 7, 3), ("nvidia_a100_3g.20gb", 2, 0)],
        ),
        ("gpu:a100:2,shard:a100:16", "gpu:a100:0(IDX:N/A),shard:a100:4(4/8,0/8)", [("a100", 2, 0)]),
        ("gpu:2,shard:8", "gpu:1(IDX:0),shard:2(0/4,2/4)", [("gpu", 2, 1)]),
        ("mps:200,nic:4,gpu:a100:1", "", [("a100", 1, 0)]),
        (",".join(f"gpu:model_{number}:1(S:0-1)" for number in range(40)), "", [(f"model_{number}", 1, 0) for number in range(40)]),
        ("(null)", "", []),
    ],
)  # fmt: skip
def test_gpus_of_all_kinds(gres: str, used: str, gpus: list[tuple[str, float, float]]) -> None:
    (worker,), unknown = nodes.workers(node(gres=gres, used=used))
    assert sorted(worker.gpus, key=lambda each: each.model) == sorted(
        (Gpus(model=model, total=total, allocated=allocated) for model, total, allocated in gpus),
        key=lambda each: each.model,
    )
    assert unknown == []
