"""What `systemctl show` says of a unit, as a `UnitState` (org.freedesktop.systemd1(5)). Pure."""

import re
from collections.abc import Mapping

from cgroup_preflight.engines.base import Exit, How, Phase, UnitState

#: ExecMainCode is si_code of waitid(2).
_HOW = {"1": How.EXITED, "2": How.KILLED, "3": How.DUMPED}
#: SIGHUP, SIGINT, SIGPIPE, SIGTERM: systemd.service(5), SuccessExitStatus.
_CLEAN_SIGNALS = (1, 2, 13, 15)

_PHASES = {"start-pre": Phase.AT_GATE, "exited": Phase.ENDED, "stop-post": Phase.AFTER_END}
_GATED = (Phase.AT_GATE, Phase.ENDED, Phase.AFTER_END)


def unit_state(shown: Mapping[str, str]) -> UnitState:
    """What `systemctl show` says of a unit, in our words; what it leaves out is unknown."""
    phase, control = _phase(shown), int(shown.get("ControlPID", "0") or 0)
    ended = _exit(shown.get("ExecMainCode", ""), shown.get("ExecMainStatus", ""))
    return UnitState(
        phase=Phase.QUEUED if phase is Phase.AT_GATE and not control else phase,
        word=shown.get("ActiveState", "unknown"), mark=mark(shown),
        gate_pid=control if phase in _GATED else 0, main_pid=int(shown.get("MainPID", "0") or 0),
        cgroup=shown.get("ControlGroup", ""), invocation=shown.get("InvocationID", ""), result=_result(shown.get("Result", ""), ended),
        exit=ended,
    )  # fmt: skip


def _phase(shown: Mapping[str, str]) -> Phase:
    if shown.get("ActiveState") in ("failed", "inactive", None):
        # With a job a unit is inactive because it has not begun yet.
        return Phase.OVER if shown.get("Job", "") in ("", "0") else Phase.QUEUED
    sub = shown.get("SubState", "")
    if sub == "condition":
        # A command of ExecCondition= decides whether the unit starts at all (systemd.service(5)).
        return Phase.QUEUED
    if sub == "stop":
        # A short answer is without MainPID.
        return Phase.ENDED if shown.get("MainPID") in ("", "0") else Phase.BEFORE_SIGNAL
    if sub.startswith(("stop", "final")) and sub not in _PHASES:
        return Phase.STOPPING
    return _PHASES.get(sub, Phase.STARTED)


def _result(result: str, ended: Exit | None) -> str:
    """The result of the program, where systemd's is that of a gate.

    systemd 254 and later start a gate inside the cgroup, where TasksMax can refuse it ("resources"); after a
    daemon-reload systemd no longer knows that the end of a gate is to be ignored ("signal").
    """
    if ended is None or result not in ("resources", "signal"):
        return result
    if ended.how is How.EXITED:
        return "exit-code" if ended.status else "success"
    if ended.how is How.KILLED and ended.status in _CLEAN_SIGNALS:
        return "success"
    return "core-dump" if ended.how is How.DUMPED else "signal"


def _exit(code: str, status: str) -> Exit | None:
    how = _HOW.get(code)
    return Exit(how=how, status=int(status)) if how and re.fullmatch(r"[0-9]{1,9}", status) else None


def mark(shown: Mapping[str, str]) -> str:
    """What changes whenever the phase does; enough to tell whether to ask for all properties again."""
    return "/".join(shown.get(name, "") for name in ("ActiveState", "SubState", "Job"))
