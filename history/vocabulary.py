"""The words that options take, here so that a command's help needs nothing else."""

STATES = ("pending", "held", "running", "suspended", "finishing", "ended", "unknown")
OUTCOMES = ("completed", "failed", "cancelled", "timeout", "out_of_memory", "node_fail", "preempted", "unknown")
FAILURES = ("failed", "timeout", "out_of_memory", "node_fail")
"""Outcomes that count as failed."""
THINGS = ("owners", "accounts", "vos", "queues", "workers", "outcomes")
MEASURES = ("jobs", "cpus", "gpus", "memory", "cpu-time", "wall-time", "wait")
KINDS = ("owner", "account", "vo", "queue", "worker", "job")
"""What `bbq info` tells about."""
GROUPS = ("owner", "account", "vo", "queue", "cluster")
"""What figures are added up by."""
INTERVALS = ("hour", "day", "week", "month")
WORKER_STATES = ("idle", "partial", "full", "down", "unknown")
FLAGS = ("draining", "not_responding", "maintenance", "reserved", "powered_down", "powering_up")
