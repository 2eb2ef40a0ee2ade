"""Slurm's words in BBQ's. Sources: squeue(1), sacct(1), scontrol(1) and slurm/slurm.h of 22.05 to 26.05."""

from history.vocabulary import Outcome, State, Waiting, WorkerFlag, WorkerState

STATES = {
    "PENDING": State.PENDING,
    "REQUEUED": State.PENDING,
    "REQUEUE_FED": State.PENDING,
    "EXPEDITING": State.PENDING,
    "REQUEUE_HOLD": State.HELD,
    "SPECIAL_EXIT": State.HELD,
    "RESV_DEL_HOLD": State.HELD,
    # a job that is being configured holds its nodes already
    "CONFIGURING": State.RUNNING,
    "POWER_UP_NODE": State.RUNNING,
    "RUNNING": State.RUNNING,
    "RESIZING": State.RUNNING,
    "SIGNALING": State.RUNNING,
    "UPDATE_DB": State.RUNNING,
    "SUSPENDED": State.SUSPENDED,
    "STOPPED": State.SUSPENDED,
    "COMPLETING": State.FINISHING,
    "STAGE_OUT": State.FINISHING,
}
"""What squeue may say of a job that has not ended."""

OUTCOMES = {
    "BOOT_FAIL": Outcome.NODE_FAIL,
    "CANCELLED": Outcome.CANCELLED,
    "COMPLETED": Outcome.COMPLETED,
    "DEADLINE": Outcome.TIMEOUT,
    "FAILED": Outcome.FAILED,
    "LAUNCH_FAILED": Outcome.NODE_FAIL,
    "RECONFIG_FAIL": Outcome.NODE_FAIL,
    "NODE_FAIL": Outcome.NODE_FAIL,
    "OUT_OF_MEMORY": Outcome.OUT_OF_MEMORY,
    "PREEMPTED": Outcome.PREEMPTED,
    "REVOKED": Outcome.CANCELLED,
    "TIMEOUT": Outcome.TIMEOUT,
}
"""What sacct may say of a job, or of one attempt, that has ended."""

REQUEUED = "REQUEUED"
"""What sacct says of an attempt after which the job waits again, by itself (scrontab, RequeueExit) or because somebody
asked for it: how the attempt ended, its batch step tells."""
RESIZING = "RESIZING"
"""What sacct says of the part of a run that ended as its job's allocation changed: the run goes on in another row."""
REVOKED = "REVOKED"
"""What sacct says of a federated job's copy on a cluster where it will not run, as another has started it."""

ENDED_CODES = "BF,CA,CD,DL,F,NF,OOM,PR,RQ,RS,RV,TO"
"""Every terminal state in sacct's short form; PR and RQ are attempts, RS is a part of one."""

NOT_ENDED = frozenset({"PENDING", "RUNNING", "SUSPENDED"})
"""What sacct says of a job that has not ended."""

_WAITING = {
    "None": Waiting.UNSTATED,
    "Resources": Waiting.RESOURCES,
    "NodeDown": Waiting.WORKER_UNAVAILABLE,
    "BadConstraints": Waiting.RESOURCES,
    "ReqNodeNotAvail": Waiting.WORKER_UNAVAILABLE,
    "Priority": Waiting.PRIORITY,
    "Dependency": Waiting.DEPENDENCY,
    "DependencyNeverSatisfied": Waiting.DEPENDENCY,
    "JobArrayTaskLimit": Waiting.ARRAY_LIMIT,
    "BeginTime": Waiting.BEGIN_TIME,
    "Reservation": Waiting.RESERVATION,
    "ReservationDeleted": Waiting.RESERVATION,
    "Licenses": Waiting.LICENCES,
    "PartitionDown": Waiting.QUEUE_UNAVAILABLE,
    "PartitionInactive": Waiting.QUEUE_UNAVAILABLE,
}


def waiting(reason: str) -> Waiting:
    """Return the kind of wait behind a pending job's reason, which may be a word or a sentence."""
    known = _WAITING.get(reason)
    if known is not None:
        return known
    if reason.startswith(("Nodes required for job are DOWN", "ReqNodeNotAvail")):
        return Waiting.WORKER_UNAVAILABLE
    # MaxCpuPerAccount, MaxGRESPerAccount and the like: slurm_protocol_defs.c has a dozen
    if reason.startswith(("QOS", "Assoc", "Max")) or "Limit" in reason:
        return Waiting.LIMIT
    return Waiting.OTHER


def is_held(state: str, reason: str) -> bool:
    """Return whether a pending job waits for a person to release it."""
    lowered = reason.lower()
    return state == "PENDING" and ("held" in lowered or "jobhold" in lowered)


BASE_STATES = {
    "IDLE": WorkerState.IDLE,
    "ALLOCATED": WorkerState.FULL,
    "MIXED": WorkerState.PARTIAL,
    "DOWN": WorkerState.DOWN,
    "ERROR": WorkerState.DOWN,
    "INVAL": WorkerState.DOWN,
    "FUTURE": WorkerState.DOWN,
    "UNKNOWN": WorkerState.UNKNOWN,
}
"""The first word of a node's State."""

FLAGS = {
    "DRAIN": WorkerFlag.DRAINING,
    "FAIL": WorkerFlag.DRAINING,
    "NOT_RESPONDING": WorkerFlag.NOT_RESPONDING,
    "MAINTENANCE": WorkerFlag.MAINTENANCE,
    "RESERVED": WorkerFlag.RESERVED,
    "POWERED_DOWN": WorkerFlag.POWERED_DOWN,
    "POWERING_DOWN": WorkerFlag.POWERED_DOWN,
    "POWER_DOWN": WorkerFlag.POWERED_DOWN,
    "POWERING_UP": WorkerFlag.POWERING_UP,
    "POWER_UP": WorkerFlag.POWERING_UP,
}
"""The further words of a node's State that BBQ shows."""

OTHER_FLAGS = frozenset({
    "BLOCKED", "CLOUD", "COMPLETING", "DYNAMIC_FUTURE", "DYNAMIC_NORM", "DYNAMIC_NORMAL", "EXTERNAL", "INVALID_REG",
    "INVALID_REGISTRATION", "PLANNED", "POWER_DRAIN", "REBOOT_CANCEL", "REBOOT_ISSUED",
    "REBOOT_REQUESTED", "RES", "UNDRAIN", "RESUME",
})  # fmt: skip
"""The further words that say nothing BBQ shows; anything else is counted as unknown."""
