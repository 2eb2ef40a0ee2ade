"""The whole site in one line."""

from collections import Counter

from exporter.latest import Board


def glance(board: Board) -> str:
    """Return each cluster's jobs by state and its CPUs in use, from the newest readings."""
    parts = []
    for cluster in board.clusters():
        _, view = board.view(cluster)
        states: Counter[str] = Counter()
        for tally in view.tallies:
            for (*_, state), amount in tally.jobs.items():
                states[state] += amount.jobs
        jobs = ", ".join(f"{number:,} {state}" for state, number in states.most_common(3)) or "no jobs"
        workers = view.workers.workers if view.workers is not None else []
        used = sum(worker.cpus_allocated or 0 for worker in workers)
        cpus = sum(worker.cpus or 0 for worker in workers)
        parts.append(f"{cluster}: {jobs}; {used:,.0f} of {cpus:,.0f} CPUs")
    return "  |  ".join(parts)
