"""How a program without a service manager ended, in systemd's words (systemd.service(5), systemd.exec(5)). Pure."""

import signal

from cgroup_preflight.engines.base import Exit, How

#: SuccessExitStatus: these signals are no failure.
_CLEAN = (signal.SIGHUP, signal.SIGINT, signal.SIGPIPE, signal.SIGTERM)


def result_of(ended: Exit, kills: int, success: str) -> str:
    """The result; `kills` are those of the kernel for memory, `success` the text of SuccessExitStatus=."""
    allowed = success.replace(",", " ").split()
    if ended.how is How.EXITED:
        return "success" if ended.status == 0 or str(ended.status) in allowed else "exit-code"
    if ended.status == signal.SIGKILL and kills:
        return "oom-kill"
    if ended.status in _CLEAN or _name(ended.status) in allowed:
        return "success"
    return "core-dump" if ended.how is How.DUMPED else "signal"


def _name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return ""
