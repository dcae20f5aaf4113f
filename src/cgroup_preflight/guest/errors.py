"""What goes wrong with a guest: it is the machine that failed, never the services in it."""

from cgroup_preflight.core.errors import HostError
from cgroup_preflight.core.report import Remedy


class GuestError(HostError):
    """A guest that was lost: `what` happened in one line, `console` are its last lines."""

    def __init__(self, what: str, *, console: tuple[str, ...] = (), remedy: Remedy) -> None:
        tail = "\n".join(f"  | {line}" for line in console)
        super().__init__(f"{what}; last console lines:\n{tail}" if tail else what, remedy=remedy)
        self.what = what
        self.console = console
