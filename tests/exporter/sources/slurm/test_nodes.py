"""Nodes of other sites: free texts, clouds, GPUs in shares and of several models."""

import pytest

from exporter.sources import AnswerUnreadable
from exporter.sources.slurm import nodes as slurm_nodes
from history.records import Gpus
from history.vocabulary import WorkerFlag, WorkerState
from tests.slurm_says import node, parsed, queued

TOO_LARGE = "18446744073709551614"


@pytest.mark.parametrize("value", ["1e32000", TOO_LARGE, "16?", "many"])
def test_a_value_of_a_node_that_cannot_be_read_costs_itself(value: str) -> None:
    """RealMemory=1e32000 took all workers down."""
    answer = node().replace(b"RealMemory=16000", f"RealMemory={value}".encode()) + node("n2")
    workers, unknown = slurm_nodes.workers(answer)
    assert [(worker.name, worker.memory_bytes) for worker in workers] == [("n1", None), ("n2", 16000 << 20)]
    assert [each.field for each in unknown] == ["slurm_value"]


def test_one_node_that_is_none_is_left_out_and_told() -> None:
    answer = node("n1") + b"NodeName=n2 Arch=x86_64 State=IDLE\n" + node("n3")
    workers, unknown = slurm_nodes.workers(answer)
    assert [worker.name for worker in workers] == ["n1", "n3"] and [each.field for each in unknown] == ["slurm_node"]
    with pytest.raises(AnswerUnreadable):
        slurm_nodes.workers(b"NodeName=n2 Arch=x86_64 State=IDLE\nNodeName=n3 Arch=x86_64 State=IDLE\n")


STAMP = "[root@1795446328]"


@pytest.mark.parametrize(
    ("texts", "reason", "by"),
    [
        (f"Reason=Kill task failed {STAMP}", "Kill task failed", "root"),
        (f"Reason=prolog instance=i-0123 job=42: down {STAMP}", "prolog instance=i-0123 job=42: down", "root"),
        (f"Reason=being replaced {STAMP} Comment=ticket 12 State=DOWN CPUTot=99 InstanceId=i-1 InstanceType=m5", "being replaced", "root"),
        ('Comment=State=DOWN Partitions=x CPUTot=half Extra={"a":"State=DOWN"} InstanceType=p5', None, None),
        (f"Reason=bad dimm Foo=Bar A1 {STAMP} ReservationName=maint_n5", "bad dimm Foo=Bar A1", "root"),
        (f"Comment=x Reason=late {STAMP}", "late", "root"),
        (f"Reason=line one\nline two {STAMP}", "line one\nline two", "root"),
        ("Reason=no stamp Comment=CPUAlloc=16", "no stamp", None),
        ("Extra=CPUTot=half", None, None),
    ],
)  # fmt: skip
def test_free_texts_of_a_node_change_nothing_else(texts: str, reason: str | None, by: str | None) -> None:
    """What people write into a node is neither a figure nor the end of the reason before it."""
    (worker,), unknown = slurm_nodes.workers(node().rstrip(b"\n") + f" {texts}\n".encode())
    assert (worker.state, worker.cpus, worker.cpus_allocated, worker.queues) == (WorkerState.IDLE, 16, 0, ("batch",))
    assert (worker.reason, (worker.details or {}).get("reason_by")) == (reason, by) and unknown == []
    assert (worker.state_since is not None) == (by is not None)


def test_a_cloud_node_that_boots_is_not_down() -> None:
    """S22."""
    (worker,), unknown = slurm_nodes.workers(node(state="MIXED+CLOUD+NOT_RESPONDING+POWERING_UP"))
    assert (worker.state, worker.flags, unknown) == (WorkerState.PARTIAL, (WorkerFlag.POWERING_UP,), [])


def test_other_generic_resources_are_no_gpus() -> None:
    (worker,), _ = slurm_nodes.workers(node(gres="vgpu:8,gpu:a100:2", used="vgpu:3,gpu:a100:1(IDX:0)"))
    assert worker.gpus == (Gpus(model="a100", total=2, allocated=1),)
    (job,), _ = parsed(queued(State="PENDING", tres_per_node="gres/vgpu:8"))
    assert job.requested_gpus is None


def test_gpus_in_use_of_a_model_that_is_not_told_are_of_none() -> None:
    """They are neither in use nor free: GresUsed may leave the model out, which says enough where there is one."""
    two = node(gres="gpu:a100:2,gpu:h100:2,shard:a100:8", used="gpu:(null):3,shard:(null):2")
    ((worker,), _), ((none,), _) = (
        slurm_nodes.workers(each) for each in (two, two.replace(b"gpu:(null):3", b"gpu:(null):0"))
    )
    assert worker.gpus == (Gpus(model="a100", total=2), Gpus(model="h100", total=2))
    assert worker.gpu_parts == (Gpus(model="shard:a100", total=8, allocated=2),)
    assert [each.allocated for each in none.gpus] == [0, 0]


def test_shards_and_mps_are_told_apart_from_whole_gpus() -> None:
    """S4."""
    (worker,), _ = slurm_nodes.workers(
        node(
            gres="gpu:a100:2,gpu:h100:4,shard:a100:16,mps:400",
            used="gpu:a100:1(IDX:0),gpu:h100:3,shard:a100:4(4/8,0/8),mps:100",
        )
    )
    assert worker.gpus == (Gpus(model="a100", total=2, allocated=1), Gpus(model="h100", total=4, allocated=3))
    assert worker.gpu_parts == (
        Gpus(model="shard:a100", total=16, allocated=4),
        Gpus(model="mps", total=400, allocated=100),
    )
