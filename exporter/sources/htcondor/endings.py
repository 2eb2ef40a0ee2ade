"""How HTCondor's runs end, and why jobs are held: its codes and their names."""

from exporter.sources.htcondor.values import Ad, as_code, as_whole
from history.vocabulary import Outcome

HOLD_CODES = {
    0: "Unspecified", 1: "UserRequest", 2: "GlobusGramError", 3: "JobPolicy", 4: "CorruptedCredential",
    5: "JobPolicyUndefined",
    6: "FailedToCreateProcess", 7: "UnableToOpenOutput", 8: "UnableToOpenInput", 9: "UnableToOpenOutputStream",
    10: "UnableToOpenInputStream", 11: "InvalidTransferAck", 12: "TransferOutputError", 13: "TransferInputError",
    14: "IwdError", 15: "SubmittedOnHold", 16: "SpoolingInput", 17: "JobShadowMismatch", 18: "InvalidTransferGoAhead",
    19: "HookPrepareJobFailure", 20: "MissedDeferredExecutionTime", 21: "StartdHeldJob", 22: "UnableToInitUserLog",
    23: "FailedToAccessUserAccount", 24: "NoCompatibleShadow", 25: "InvalidCronSettings", 26: "SystemPolicy",
    27: "SystemPolicyUndefined", 32: "MaxTransferInputSizeExceeded", 33: "MaxTransferOutputSizeExceeded",
    34: "JobOutOfResources", 35: "InvalidDockerImage", 36: "FailedToCheckpoint", 37: "EC2UserError",
    38: "EC2InternalError", 39: "EC2AdminError", 40: "EC2ConnectionProblem", 41: "EC2ServerError",
    42: "EC2InstancePotentiallyLostError", 43: "PreScriptFailed", 44: "PostScriptFailed",
    45: "SingularityTestFailed", 46: "JobDurationExceeded", 47: "JobExecuteExceeded", 48: "HookShadowPrepareJobFailure",
    49: "CannotSwitchPrimaryGroup",
}  # fmt: skip
"""Names of HoldReasonCode (HTCondor's condor_holdcodes.h)."""
_WORKER_FAILED = {
    1007: "StarterError", 1008: "ReconnectFailed", 1012: "StartdException", 1024: "ScratchDirError",
    1031: "ActivationRefusedBroken", 1036: "ActivationRefusedUnhealthy",
}  # fmt: skip
"""VacateReasonCode of what a worker is to blame for. A claim that could not be activated for another reason (1006 of
23.x, the rest of 1026 to 1035) was on its way out already: condor_vacate_job makes some (tried on 23.9 and 25.14)."""


def exit_outcome(ad: Ad) -> Outcome:
    """Return how a job that came to its own end did. ExitStatus is always 0, ExitSignal is stale: neither is read."""
    if ad["ExitBySignal"]:
        return Outcome.FAILED
    code = as_code(ad["ExitCode"])
    if code is None:
        return Outcome.UNKNOWN
    return Outcome.COMPLETED if code == 0 else Outcome.FAILED


def run_outcome(ad: Ad) -> Outcome:
    """Return how a run ended. A VacateReasonCode is there only when it was not the job that ended it."""
    code = as_whole(ad["VacateReasonCode"])
    if code is None and ad["VacateReason"] is None:
        return exit_outcome(ad)
    held = as_whole(ad["HoldReasonCode"])
    if held in (46, 47):  # JobDurationExceeded, JobExecuteExceeded
        return Outcome.TIMEOUT
    if held == 34:  # JobOutOfResources
        return Outcome.OUT_OF_MEMORY
    if code in _WORKER_FAILED:
        return Outcome.NODE_FAIL
    if code is not None and 1 < code < 1000:  # the reason for which it was held, such as a failed transfer
        return Outcome.FAILED
    return Outcome.PREEMPTED


def taken_off(ad: Ad) -> str | None:
    """Return why a run was taken off its worker, by the name of a code: a hold's, or one that blames the worker."""
    code, held = as_code(ad["VacateReasonCode"]), as_code(ad["HoldReasonCode"])
    if code is None and ad["VacateReason"] is None:
        return None  # it came to its own end
    if code in _WORKER_FAILED:
        return _WORKER_FAILED[code]
    held = held if held is not None else code if code is not None and 0 < code < 1000 else None
    return None if held is None else HOLD_CODES.get(held, str(held))
