"""Why idle jobs wait, from a pool's ads to what `bbq info job` and the metrics say."""

import io
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from exporter.config import parse
from exporter.readings import Feed, Kind
from exporter.sources.htcondor import Settings, reader
from exporter.sources.htcondor.asking import split
from exporter.sources.htcondor.matching import __main__ as judging
from exporter.sources.htcondor.matching.quotas import Quotas
from exporter.sources.htcondor.matching.verdicts import Verdict
from history.settings import ConfigError
from tests.htcondor_machines import group, machine
from tests.htcondor_says import SCHEDD, Pool, Site, job, source


def alike(number: int, ad: str, jobs: int = 1) -> dict[str, object]:
    """Return what a schedd says of a group of jobs."""
    return {"AutoClusterId": number, "JobCount": jobs, "Whole": ad}


def _why(site: Site, number: int) -> str:
    facts = {row["what"]: row["value"] for row in site.bbq("info", "job", str(number))["job"]}
    return str(facts["why it waits"])


def test_a_request_that_no_machine_has_room_for_is_told(pool: Pool, site: Site, t: int) -> None:
    pool.machines = [machine("wn1", memory=512 << 10), machine("wn2", 8, 0)]
    large = group(memory=600 << 10)
    pool.groups[SCHEDD] = [alike(1, large.ad), alike(2, group().ad), alike(3, group(also="HasFoo").ad)]
    pool.queue[SCHEDD] = [
        job(7, t, AutoClusterId=1, RequestMemory=600 << 10), job(8, t, AutoClusterId=2), job(9, t, AutoClusterId=3),
        job(10, t),
    ]  # fmt: skip
    site.poll(t)
    said = {number: _why(site, number) for number in (7, 8, 9, 10)}
    assert said[7] == ("no machine could ever take it as it is: memory 600 GiB: the largest machine has 512 GiB")
    assert said[8].endswith("priority and quota: 2 machines match, and some have room")
    assert said[9].endswith("(HasFoo): no machine meets it (none has HasFoo)")
    assert "(no negotiation cycle has looked at it yet)" in said[10]
    assert site.gauge("bbq_pending_jobs", reason="no_match") == 2
    assert site.gauge("bbq_pending_jobs", reason="next_cycle") == 2
    assert site.gauge("bbq_pending_jobs", reason="unstated") is None
    writes = len(pool.asked)
    site.poll(t + 60)
    assert {question["what"] for question in pool.asked[writes:]} & {"groups", "matching"} == set()


def test_where_it_is_off_the_negotiators_word_is_all(pool: Pool, t: int) -> None:
    pool.queue[SCHEDD] = [job(7, t, AutoClusterId=1), job(8, t, LastRejMatchReason="no match found ")]
    read = source(pool, analysis=0).read_jobs(Feed(kind=Kind.JOBS, queue=SCHEDD))
    assert [(each.waiting, each.reason) for each in read.jobs] == [
        ("unstated", None), ("resources", "no match found"),
    ]  # fmt: skip
    assert {question["what"] for question in pool.asked} & {"groups", "matching"} == set()


def test_it_is_off_with_one_word() -> None:
    written = "clusters: [{name: grid, scheduler: htcondor, analysis: %s}]"
    said = {word: parse(written % word).clusters[0] for word in ("off", "90s", "10m")}
    assert {word: each.analysis for word, each in said.items() if isinstance(each, Settings)} == {
        "off": 0, "90s": 90, "10m": 600,
    }  # fmt: skip
    with pytest.raises(ConfigError, match=r"analysis: expected a duration such as 60s.*, read 'never'; or off"):
        parse(written % "never")


@pytest.mark.parametrize("with_quotas", [True, False])
def test_the_process_that_judges(
    monkeypatch: pytest.MonkeyPatch, capsysbinary: pytest.CaptureFixture[bytes], *, with_quotas: bool
) -> None:
    """It asks a collector for machines and for quotas, which an older one may not have, and answers as the reader does."""
    used_up = {"Name": "group_a", "IsAccountingGroup": True, "EffectiveQuota": 2.0, "WeightedResourcesUsed": 2.0}

    class Collector:
        def __init__(self, host: str) -> None:
            assert host == "cm"

        def query(self, kind: str, constraint: str, projection: list[str] | None = None) -> list[Any]:
            if kind == "machines":
                assert projection is None and constraint == "DynamicSlot =!= true"
                return [machine("wn1"), machine("wn2", 8, 0)]
            if not with_quotas:
                raise RuntimeError("no such ads")
            return [used_up]

    kinds = SimpleNamespace(Startd="machines", Accounting="accounting")
    bindings = SimpleNamespace(Collector=Collector, AdTypes=kinds, param={"QUERY_TIMEOUT": "20"})
    monkeypatch.setattr(reader, "bindings", lambda settings: (bindings, None))
    monkeypatch.setattr(judging.resource, "setrlimit", lambda *_: None)
    monkeypatch.setattr(judging.signal, "alarm", lambda _: None)
    question = {"collectors": ["cm"], "groups": [msgspec.to_builtins(group("mine", cpus=16))], "what": "matching"}
    request = {"settings": {}, "seconds": 30, "questions": [question]}
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(msgspec.json.encode(request))))
    judging.main()
    ((first, second),), good = split("matching", capsysbinary.readouterr().out, 1)
    assert msgspec.json.decode(first, type=Quotas).groups == ({"group_a": 0.0} if with_quotas else {})
    verdict = msgspec.json.decode(second, type=Verdict)
    assert (verdict.key, verdict.machines, verdict.matching, verdict.free, good) == ("mine", 2, 1, 1, "cm")
