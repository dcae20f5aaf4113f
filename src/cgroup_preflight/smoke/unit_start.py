"""Starts units from files of the run-time folder, all with one call."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from cgroup_preflight.plan.model import UnitFile
from cgroup_preflight.smoke.manager import Manager


@contextmanager
def started(manager: Manager, texts: Mapping[str, str]) -> Iterator[str]:
    """Units by name, with the text of their files, which go at the end. The manager's words if it refused some.

    The units themselves are the caller's to end. Raises HostError.
    """
    names = list(texts)
    try:
        manager.write_files([UnitFile(path=name, content=text) for name, text in texts.items()])
        if refused := manager.start_units(names):
            # As with slices: a manager that has not seen the new files yet sees them after a reload.
            manager.require("daemon-reload")
            refused = manager.start_units(names)
        yield refused
    finally:
        manager.remove_files(names)
