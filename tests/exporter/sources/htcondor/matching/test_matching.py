"""Why idle jobs wait, from a pool's ads to what `bbq info job` and the metrics say."""

from exporter.readings import Feed, Kind
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
