"""Machines of other pools: GPUs of several models, backfill slots, owners at their desks, figures that are none."""

import json
from typing import Any

import classad2

from exporter.sources.htcondor import reader
from tests.htcondor_says import SCHEDD, Pool, Site, running, slot

GIB = 1 << 30


def test_backfill_slots_are_not_counted_twice(site: Site, pool: Pool, t: int) -> None:
    """16 CPUs and 3 GPUs, of which 4 CPUs and 1 GPU are in use; the backfill slot offers all of it once more."""
    pool.slots = [
        slot("wn1", 16, 12, TotalSlotGPUs=3, GPUs=2, GPUs_DeviceName="A100", NumDynamicSlots=1),
        slot(
            "wn1", 16, 16, Name="backfill2@wn1", BackfillSlot=True, TotalSlotGPUs=3, GPUs=3, GPUs_DeviceName="A100",
            ChildCpus="{ 2,1 }", NumDynamicSlots=2,
        ),
    ]  # fmt: skip
    site.poll(t)
    assert (site.gauge("bbq_worker_cpus"), site.gauge("bbq_worker_cpus_allocated")) == (16, 4)
    assert (site.gauge("bbq_worker_gpus"), site.gauge("bbq_worker_gpus_allocated")) == (3, 1)
    (worker,) = site.bbq("workers")
    assert (worker["cpus"], worker["cpus_used"], worker["state"]) == (16, 4, "partial")
    (gpus,) = site.bbq("gpus")["by model"]
    assert (gpus["model"], gpus["gpus"], gpus["gpus_used"], gpus["gpus_free"]) == ("A100", 3, 1, 2)


def test_two_models_of_gpus_on_one_machine(site: Site, pool: Pool, t: int) -> None:
    """By device; what is left is told by device too."""
    pool.slots = [
        slot(
            "wn1", 16, 16, TotalSlotGPUs=3, GPUs=1, GPUs_DeviceName="A100", GPUModels=json.dumps({"A100": 2, "H100": 1}),
            FreeGPUModels=json.dumps({"A100": 1}),
        ),
    ]  # fmt: skip
    site.poll(t)
    assert [site.gauge("bbq_worker_gpus", model=model) for model in ("A100", "H100")] == [2, 1]
    assert [site.gauge("bbq_worker_gpus_allocated", model=model) for model in ("A100", "H100")] == [1, 1]
    found = {
        each["model"]: (each["gpus"], each["gpus_used"], each["gpus_free"]) for each in site.bbq("gpus")["by model"]
    }
    assert found == {"A100": (2, 1, 1), "H100": (1, 1, 0)}


def test_gpus_of_which_nobody_says_how_many_are_left_are_not_in_use(site: Site, pool: Pool, t: int) -> None:
    """TotalSlotGPUs without GPUs: the gauge of what is in use is not there, and bbq counts what jobs say they hold."""
    pool.slots = [slot("wn1", 16, 16, TotalSlotGPUs=3, GPUs_DeviceName="A100")]
    pool.queue[SCHEDD] = [running(1, t, t + 10, GPUsProvisioned=1)]
    site.poll(t + 60)
    assert (site.gauge("bbq_worker_gpus"), site.gauge("bbq_worker_gpus_allocated")) == (3, None)
    (gpus,) = site.bbq("gpus")["by model"]
    assert (gpus["gpus"], gpus["gpus_used"], gpus["gpus_free"]) == (3, 1, 2)


def test_the_reader_tells_devices_by_the_ads_of_each() -> None:
    """In the process that reads: AssignedGPUs names the devices, each has an ad of its own, some are free."""
    whole = classad2.ClassAd(
        '[ Name = "slot1@wn1"; AssignedGPUs = "GPU-1,GPU-2,GPU-3"; AvailableGPUs = { GPUs_GPU_1, GPUs_GPU_3 };'
        ' GPUs_DeviceName = "A100"; GPUs_GPU_1 = [ DeviceName = "A100" ]; GPUs_GPU_2 = [ DeviceName = "H100" ];'
        " GPUs_GPU_3 = [ DeviceUuid = 3 ] ]"
    )
    told: list[Any] = [classad2.ClassAd({"Name": "slot1@wn1"}), classad2.ClassAd({"Name": "slot1@wn2"})]
    reader._add_models(told, [whole])
    assert json.loads(told[0]["GPUModels"]) == {"A100": 2, "H100": 1}
    assert json.loads(told[0]["FreeGPUModels"]) == {"A100": 2}
    assert "GPUModels" not in told[1]


def test_slots_whose_owner_uses_them_are_no_free_ones(site: Site, pool: Pool, t: int) -> None:
    """START is false there: no job is let in."""
    gpus = {"TotalSlotGPUs": 2, "GPUs": 2, "GPUs_DeviceName": "A100"}
    pool.slots = [slot("wn1", 8, 8, State="Owner", **gpus), slot("wn2", 8, 8, **gpus)]
    site.poll(t)
    assert site.gauge("bbq_worker_flag") == site.gauge("bbq_worker_flag", worker="wn1", flag="reserved") == 1
    workers = {each["worker"]: each["flags"] for each in site.bbq("workers")}
    assert workers == {"wn1": "reserved", "wn2": None}
    (model,) = site.bbq("gpus")["by model"]
    assert (model["gpus"], model["gpus_free"], model["gpus_unusable"]) == (4, 2, 2)


def test_leftovers_below_zero_are_nothing_left(site: Site, pool: Pool, t: int) -> None:
    """A slot of 8 CPUs that says -2 are left has 8 in use, and not 10."""
    pool.slots = [slot("wn1", 8, 0, Cpus=-2, Memory=-512, TotalSlotGPUs=2, GPUs=-1, GPUs_DeviceName="A100")]
    site.poll(t)
    assert (site.gauge("bbq_worker_cpus"), site.gauge("bbq_worker_cpus_allocated")) == (8, 8)
    assert (site.gauge("bbq_worker_memory_bytes"), site.gauge("bbq_worker_memory_allocated_bytes")) == (
        8 * GIB,
        8 * GIB,
    )
    assert (site.gauge("bbq_worker_gpus"), site.gauge("bbq_worker_gpus_allocated")) == (2, 2)
    (worker,) = site.bbq("workers")
    assert (worker["state"], worker["cpus_used"]) == ("full", 8)


def test_a_slot_of_no_machine_is_named_and_left_out(site: Site, pool: Pool, t: int) -> None:
    """Machine is an expression that is undefined: no worker is called None."""
    pool.slots = [slot("wn1", 8, 8), slot("x", 4, 4, Machine=None, Name="slot1@nowhere")]
    site.poll(t)
    assert [each["worker"] for each in site.bbq("workers")] == ["wn1"]
    assert site.gauge("bbq_unknown_values_total", field="htcondor_machine") == 1


def test_one_machine_in_two_spellings_is_one(site: Site, pool: Pool, t: int) -> None:
    """Host names are the same however they are written; its jobs say either."""
    pool.slots = [
        slot("WN1.Example.org", 8, 7, Name="slot1@WN1.Example.org"), slot("wn1.example.org", 8, 7, Name="slot2@wn1.example.org"),
    ]  # fmt: skip
    pool.queue[SCHEDD] = [
        running(1, t, t + 10, "WN1.Example.org"), running(2, t, t + 10, "wn1.example.org"),
    ]  # fmt: skip
    site.poll(t + 60)
    (worker,) = site.bbq("workers")
    assert (worker["cpus"], worker["cpus_used"], worker["jobs"]) == (16, 2, 2)
    (top,) = site.bbq("top", "workers")
    assert (top["worker"], top["jobs"]) == (worker["worker"], 2)
    assert site.gauge("bbq_worker_jobs", worker=worker["worker"]) == 2
