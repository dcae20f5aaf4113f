"""Tells which TCP ports the services listen at: in a guest, so that the host can forward ports that no `ready` names."""

from collections.abc import Callable, Mapping

from cgroup_preflight.engines.listeners import Listeners

#: Seconds between two looks.
_LOOK = 1.0


class Listening:
    """The ports so far; `tell` gets the service, the address and the port of each that is new."""

    def __init__(
        self, listeners: Listeners, tell: Callable[[str, str, int], object], now: Callable[[], float]
    ) -> None:  # fmt: skip
        self._listeners, self._tell, self._now = listeners, tell, now
        self._inodes: frozenset[int] = frozenset()
        self._told: set[tuple[str, str, int]] = set()
        self._due = 0.0

    def look(self, cgroups: Callable[[], Mapping[str, str]]) -> None:
        """Tells of what is new; `cgroups` returns the cgroup of each service that runs.

        Whose socket it is takes a look into every process of theirs, so only where there is a new socket.
        """
        if self._now() < self._due:
            return
        self._due = self._now() + _LOOK
        found = self._listeners.tcp()
        before, self._inodes = self._inodes, frozenset(item.inode for item in found)
        new = tuple(item for item in found if item.inode not in before)
        for name, cgroup in cgroups().items() if new else ():
            for item in self._listeners.owned(new, cgroup):
                place = (name, item.address, item.port)
                if place not in self._told:
                    self._told.add(place)
                    self._tell(*place)
