"""Which probe begins next: those below one top slice take turns, and CPUs and memory have room for all that run. Pure."""

from collections.abc import Callable, Sequence

from cgroup_preflight.smoke.probe_plan import Capacity, Probe, has_room


class Turns:
    """The order of probes, which are indices into `probes`, in `lanes` of which each has one that runs."""

    def __init__(self, probes: Sequence[Probe], lanes: Sequence[Sequence[int]], capacity: Capacity) -> None:
        self._probes, self._capacity = probes, capacity
        self._todo = [list(numbers) for numbers in lanes]
        self._running: set[int] = set()
        #: Those that have run next to others, and those that run alone, after they received too little CPU time so.
        self._shared: set[int] = set()
        self._alone: set[int] = set()

    def are_left(self, lane: int) -> bool:
        """Whether a probe of a lane has not begun."""
        return bool(self._todo[lane])

    def after(self, lane: int) -> int | None:
        """The probe of a lane that is the next one unless there is no room for it."""
        return next(iter(self._todo[lane]), None)

    def begin(self, lane: int, may: Callable[[int], bool] = lambda _: True) -> int | None:
        """A probe that `may` begin now, after those before it in its lane; None where there is no room for one."""
        todo = self._todo[lane]
        quotas = [number for number in todo if self._is_quota(number)]
        number = next((number for number in quotas or todo if may(number) and self._fits(number)), None)
        if number is not None:
            todo.remove(number)
            self._running.add(number)
            if len(self._running) > 1:
                self._shared |= self._running
        return number

    def end(self, lane: int, number: int, *, lacked_cpu: bool) -> None:
        """A probe is over; one that received too little CPU time next to others has a turn alone."""
        if lacked_cpu and number in self._shared and number not in self._alone:
            self._alone.add(number)
            self.put_back(lane, number)
        self._running.discard(number)

    def put_back(self, lane: int, number: int) -> None:
        """A probe has another turn."""
        self._running.discard(number)
        self._todo[lane].insert(0, number)

    def _is_quota(self, number: int) -> bool:
        return self._probes[number].kind == "cpu"

    def _fits(self, number: int) -> bool:
        now = set(self._running)
        if now and (number in self._alone or self._alone & now):
            return False
        if not self._is_quota(number) and any(self._alone.intersection(todo) for todo in self._todo):
            return False
        return has_room(self._probes[number], [self._probes[other] for other in now], self._capacity)
