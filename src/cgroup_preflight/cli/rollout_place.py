"""On which machine a rollout happens: what its actions need of it."""

import sys
import time

from cgroup_preflight.cli import common, options
from cgroup_preflight.core.records import TYPE_CHECKING
from cgroup_preflight.report.escape import plain

if TYPE_CHECKING:
    from typing import Protocol

    from cgroup_preflight.checks.base import Context
    from cgroup_preflight.config.model import Config
    from cgroup_preflight.rollout.session import Host
else:
    Protocol = object


class Place(Protocol):
    """One machine."""

    def open(self, config: "Config | None", engine: str) -> "tuple[Host, Context]":
        """Its service manager. Raises HostError."""

    def folder(self, state: str) -> str:
        """The folder of its journals, which is on this machine; `state` is that of --state. Raises UsageError."""

    def begin(self, host: "Host", context: "Context") -> None:
        """Before the first change. Raises HostError."""

    def say(self, text: str) -> None:
        """One line about what happens."""


class Here:
    """The machine that this tool runs on."""

    def open(self, config: "Config | None", engine: str) -> "tuple[Host, Context]":
        """As `Place.open`."""
        from cgroup_preflight.rollout.session import host_of

        context = common.manager_context(config, engine)
        return host_of(context.facts, context.engine), context

    def folder(self, state: str) -> str:
        """As `Place.folder`."""
        from cgroup_preflight.rollout.session import state_folder

        return state_folder(state)

    def begin(self, host: "Host", context: "Context") -> None:
        """As `Place.begin`: nothing."""

    def say(self, text: str) -> None:
        """As `Place.say`; on a terminal a sample takes the place of the one before."""
        is_terminal = sys.stderr is not None and sys.stderr.isatty()
        line = plain(text)
        if is_terminal:
            options.write_stderr(f"\r\x1b[K  {line}" if line.startswith("sample ") else f"\r\x1b[K  {line}\n")
        else:
            options.write_stderr(f"{time.strftime('%H:%M:%S')} {line}\n")
