"""`rollout --host`: rollouts of other machines over ssh. Journals and hooks are on this machine, timers on those."""

import argparse
import os
from collections.abc import Callable, Sequence
from typing import cast

from cgroup_preflight.checks.base import Context
from cgroup_preflight.cli import common, hosts
from cgroup_preflight.cli.rollout_place import Here, Place
from cgroup_preflight.config.model import Config
from cgroup_preflight.core.errors import ExitStatus, HostError, UsageError
from cgroup_preflight.core.reading import Reading, value_or
from cgroup_preflight.core.report import Finding, Remedy
from cgroup_preflight.engines.ready import LocalNetwork
from cgroup_preflight.engines.systemd import bus_environment, private_bus
from cgroup_preflight.host.gather import gather
from cgroup_preflight.host.remote.asking import Asker
from cgroup_preflight.host.remote.bridge import BridgedManager
from cgroup_preflight.host.remote.machine import door_of
from cgroup_preflight.host.remote.questions import Kind, Question
from cgroup_preflight.host.remote.rounds import AskedFs, AskedRunner
from cgroup_preflight.rollout.remote import folder_of, host_behind, make_folder
from cgroup_preflight.rollout.session import Host, state_folder

_Done = tuple[Sequence[Finding], Context | None]
#: The actions that change a host.
_CHANGING = ("apply", "resume", "abort")


class Far:
    """A host."""

    def __init__(self, remote: hosts.Remote) -> None:
        self._remote = remote
        self._here = Here()
        self._closed: list[Callable[[], None]] = []

    def open(self, config: Config | None, engine: str) -> tuple[Host, Context]:
        """As `Place.open`."""

        def read(fs: AskedFs, runner: AskedRunner) -> Context:
            return common.context_of(gather(fs, runner), config, engine)

        context = self._remote.rounds.read(read)
        uid, choice = value_or(context.facts.uid, -1), context.engine
        environment = tuple(bus_environment(choice, uid).items())
        door, asker = door_of(self._remote.lines, LocalNetwork(), root=uid == 0, environment=environment)
        self._closed += [asker.close, lambda: self._count(asker)]
        if isinstance(door.manager, BridgedManager) and choice.name is not None:
            self._remote.manager = door.manager

        def folders(path: str) -> Reading[Sequence[tuple[str, int]]]:
            return cast("Reading[Sequence[tuple[str, int]]]", asker.ask([Question(kind=Kind.TREE, path=path)])[0])

        return host_behind(door, context.facts, choice, private_bus(choice, door.manager), folders), context

    def _count(self, asker: Asker) -> None:
        self._remote.asker.round_trips += asker.round_trips

    def folder(self, state: str) -> str:
        """As `Place.folder`."""
        return _folder(state, self._remote.name)

    def begin(self, host: Host, context: Context) -> None:
        """As `Place.begin`."""
        make_folder(host, value_or(context.facts.uid, -1))

    def say(self, text: str) -> None:
        """As `Place.say`."""
        self._here.say(f"{self._remote.name}: {text}")

    def close(self) -> None:
        """Hangs up."""
        for close in self._closed:
            close()


def on_hosts(args: argparse.Namespace, act: Callable[[argparse.Namespace, Place], _Done]) -> _Done:
    """What an action found on all hosts of `--host`, several at a time. Raises UsageError."""
    if not getattr(args, "yes", True):
        raise UsageError("with --host it needs --yes", where=f"rollout {args.action}", remedy=Remedy(
            title="read the plan with `rollout plan --host NAME`, then add --yes"))  # fmt: skip
    asked = hosts.remotes(args.host, args.ssh_config)

    def work(remote: hosts.Remote) -> _Done:
        place = Far(remote)
        try:
            return act(args, place)
        except HostError as error:
            if args.action not in _CHANGING:
                raise
            raise HostError(
                f"{error.message}; if it has new values, the timer there restores the old ones", where=error.where,
                remedy=Remedy(title="ask it again later", commands=(("cgroup-preflight", "rollout", "status", "--host", remote.name),)),
            ) from error  # fmt: skip
        finally:
            place.close()

    try:
        outcomes = hosts.each(asked, work)
    except (KeyboardInterrupt, SystemExit) as error:
        if args.action in _CHANGING:
            Here().say("ended by a signal; the service manager of each host restores its old values within `restore_after`, "
                       "unless `cgroup-preflight rollout resume` goes on before")  # fmt: skip
        raise SystemExit(
            ExitStatus.INTERRUPTED if isinstance(error, KeyboardInterrupt) else ExitStatus.TERMINATED
        ) from None
    found, contexts = list[Finding](), list[Context]()
    for outcome in outcomes:
        own, context = cast("_Done", outcome.value) if outcome.error is None else ((), None)
        found += hosts.findings_of(outcome, own)
        contexts += [context] if context is not None else []
    return found, contexts[0] if len(asked) == len(contexts) == 1 else None


def one(args: argparse.Namespace) -> Place:
    """The only host of a call that asks no host: for its journals. Raises UsageError."""
    if len(args.host) != 1:
        raise UsageError("the journal of one host at a time", where="--host", remedy=Remedy(title="name one host"))
    return Far(hosts.remotes(args.host, args.ssh_config)[0])


def _folder(state: str, host: str) -> str:
    """The folder of its journals; also above it nobody else may write."""
    above = state_folder(state)
    state_folder(os.path.join(above, "hosts"))
    return state_folder(folder_of(above, host))
