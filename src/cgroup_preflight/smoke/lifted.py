"""Lifts limits of a run for the time of a probe, in the kernel's files."""

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager

from cgroup_preflight.core.reading import Known
from cgroup_preflight.engines.base import Engine
from cgroup_preflight.host.cgroup import Observer


@contextmanager
def lifted(
    engine: Engine, observer: Observer, places: Iterable[tuple[str, str]], *, to: str = "max"
) -> Iterator[None]:  # fmt: skip
    """Lifts the limits in these cgroups and attribute files to another value, and sets them again at the end.

    `systemctl set-property` would leave a drop-in behind. Where a limit cannot be lifted, the probe does not reach what
    it tests, which stays unverified.
    """
    with ExitStack() as stack:
        for cgroup, attribute in places:
            reading = observer.read(cgroup, attribute)
            if isinstance(reading, Known) and _is_limit(reading.value):
                path = observer.path(cgroup, attribute)
                stack.callback(engine.write_attribute, path, reading.value)
                engine.write_attribute(path, to)
        yield


def is_limited(observer: Observer, cgroup: str, attribute: str) -> bool:
    """Whether the kernel has a limit in this file."""
    reading = observer.read(cgroup, attribute)
    return isinstance(reading, Known) and _is_limit(reading.value)


def _is_limit(text: str) -> bool:
    return text.split()[:1] != ["max"]
