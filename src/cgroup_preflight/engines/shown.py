"""What `systemctl show` says of a unit, as a `UnitState` (org.freedesktop.systemd1(5)). Pure."""

import re
from collections.abc import Mapping

from cgroup_preflight.engines.base import Exit, How, Phase, UnitState

#: ExecMainCode is si_code of waitid(2).
_HOW = {"1": How.EXITED, "2": How.KILLED, "3": How.DUMPED}

_PHASES = {"start-pre": Phase.AT_GATE, "exited": Phase.ENDED, "stop-post": Phase.AFTER_END}
_GATED = (Phase.AT_GATE, Phase.ENDED, Phase.AFTER_END)


def unit_state(shown: Mapping[str, str]) -> UnitState:
    """What `systemctl show` says of a unit, in our words; what it leaves out is unknown."""
    phase, control = _phase(shown), int(shown.get("ControlPID", "0") or 0)
    return UnitState(
        phase=Phase.QUEUED if phase is Phase.AT_GATE and not control else phase,
        word=shown.get("ActiveState", "unknown"), mark=mark(shown),
        gate_pid=control if phase in _GATED else 0, main_pid=int(shown.get("MainPID", "0") or 0),
        cgroup=shown.get("ControlGroup", ""), invocation=shown.get("InvocationID", ""), result=shown.get("Result", ""),
        exit=_exit(shown.get("ExecMainCode", ""), shown.get("ExecMainStatus", "")),
    )  # fmt: skip


def _phase(shown: Mapping[str, str]) -> Phase:
    if shown.get("ActiveState") in ("failed", "inactive", None):
        # With a job a unit is inactive because it has not begun yet.
        return Phase.OVER if shown.get("Job", "") in ("", "0") else Phase.QUEUED
    sub = shown.get("SubState", "")
    if sub == "stop":  # ExecStop= runs
        return Phase.ENDED if shown.get("MainPID", "0") in ("", "0") else Phase.BEFORE_SIGNAL
    if sub.startswith(("stop", "final")) and sub not in _PHASES:
        return Phase.STOPPING
    return _PHASES.get(sub, Phase.STARTED)


def _exit(code: str, status: str) -> Exit | None:
    how = _HOW.get(code)
    return Exit(how=how, status=int(status)) if how and re.fullmatch(r"[0-9]{1,9}", status) else None


def mark(shown: Mapping[str, str]) -> str:
    """What changes whenever the phase does; enough to tell whether to ask for all properties again."""
    return "/".join(shown.get(name, "") for name in ("ActiveState", "SubState", "Job"))
