"""Commands that ask other hosts over ssh: several at the same time, each with its own outcome."""

import contextlib
import queue
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from cgroup_preflight.cli import options
from cgroup_preflight.core import codes
from cgroup_preflight.core.errors import PreflightError, UsageError
from cgroup_preflight.core.records import dataclass, replace
from cgroup_preflight.core.report import Finding, Remedy, Status, Verdict
from cgroup_preflight.core.verdict import verdict_of
from cgroup_preflight.host.remote.asking import Asker
from cgroup_preflight.host.remote.bridge import BridgedManager
from cgroup_preflight.host.remote.line import LineError
from cgroup_preflight.host.remote.programs import RemotePrograms
from cgroup_preflight.host.remote.rounds import Rounds
from cgroup_preflight.host.remote.ssh import SshLines, control_folder, host_name
from cgroup_preflight.report.escape import plain

T = TypeVar("T")
#: Hosts that are asked at the same time.
_AT_ONCE = 8
_STATUS = {Verdict.PASS: Status.PASS, Verdict.FAIL: Status.FAIL, Verdict.UNVERIFIED: Status.UNVERIFIED}


class Remote:
    """One host while it is asked."""

    def __init__(self, name: str, lines: SshLines) -> None:
        self.name = name
        self.lines = lines
        self.asker = Asker(lines.shell, lines.files)
        self.rounds = Rounds(self.asker)
        self.programs = RemotePrograms(self.asker, lines.channel)
        #: The way to its service manager, where a command starts or changes units.
        self.manager: BridgedManager | None = None

    @property
    def asked_with(self) -> str:
        """Which program asked its service manager; empty where units were only read about."""
        return self.manager.way if self.manager is not None else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a host gave, or why it gave nothing; `at` is when it was asked, seconds since 1970 by this machine's clock."""

    host: str
    at: float
    value: object = None
    error: PreflightError | None = None
    round_trips: int = 0
    asked_with: str = ""


def remotes(names: Sequence[str], config: str) -> list[Remote]:
    """The hosts of `--host`; nothing is asked yet. Raises UsageError for a name that is none, or is given twice."""
    for name in names:
        host_name(name)
    if len(set(names)) != len(names):
        raise UsageError("a host is named twice", where="--host", remedy=Remedy(title="name each host once"))
    folder = control_folder()
    return [Remote(name, SshLines(name, folder, config=config)) for name in names]


def each(hosts: Sequence[Remote], work: Callable[[Remote], object]) -> list[Outcome]:
    """What `work` returns for each host, in order; several at a time. A PreflightError is the outcome of its host alone."""
    done: queue.Queue[tuple[int, Outcome | Exception]] = queue.Queue()
    todo: queue.Queue[int] = queue.Queue()
    for place in range(len(hosts)):
        todo.put(place)

    def ask_some() -> None:
        while True:
            try:
                place = todo.get_nowait()
            except queue.Empty:
                return
            try:
                done.put((place, _outcome(hosts[place], work)))
            except Exception as error:  # noqa: BLE001 - a defect, raised again by the thread that waits
                done.put((place, error))

    found: dict[int, Outcome] = {}
    try:
        # Daemons: a signal ends this command at once, and nothing must wait for a host then. The first may have begun
        # when it comes.
        for _ in range(min(_AT_ONCE, len(hosts))):
            threading.Thread(target=ask_some, daemon=True).start()
        while len(found) < len(hosts):
            place, outcome = done.get()
            if isinstance(outcome, Exception):
                raise outcome
            found[place] = outcome
    except BaseException:
        # A thread whose host ends now must not begin with another one.
        _empty(todo)
        for host in hosts:
            host.lines.abandon()
        raise
    return [found[place] for place in range(len(hosts))]


def _empty(todo: "queue.Queue[int]") -> None:
    with contextlib.suppress(queue.Empty):
        while True:
            todo.get_nowait()


def _outcome(host: Remote, work: Callable[[Remote], object]) -> Outcome:
    at = time.time()
    try:
        value = work(host)
        return Outcome(
            host=host.name, at=at, value=value, round_trips=host.asker.round_trips, asked_with=host.asked_with
        )
    except PreflightError as error:
        return Outcome(host=host.name, at=at, error=error, round_trips=host.asker.round_trips)
    finally:
        host.asker.close()


def findings_of(outcome: Outcome, findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """The host's own verdict, and its findings with its name. `findings` do not count where the host could not be asked."""
    if outcome.error is not None:
        return (unreachable(outcome.host, outcome.error, moment(outcome.at)),)
    found = tuple(findings)
    verdict = verdict_of(found)
    read_at = moment(outcome.at)
    problems = sum(item.status in (Status.FAIL, Status.UNVERIFIED, Status.WARN) for item in found)
    words = f"{problems} of {len(found)} findings are problems" if problems else f"{len(found)} findings, no problem"
    summary = codes.HOST.finding(
        _STATUS[verdict], outcome.host, f"its verdict is {verdict.value}: {words}; read over ssh at {read_at}",
        evidence={
            "host": outcome.host, "verdict": verdict.value, "read_at": read_at, "round_trips": outcome.round_trips,
            **({"asked_with": outcome.asked_with} if outcome.asked_with else {}),
        },
    )  # fmt: skip
    return (summary, *(_labelled(outcome.host, item) for item in found))


def moment(at: float) -> str:
    """Seconds since 1970 as RFC 3339 in UTC."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at))


def unreachable(host: str, error: PreflightError, asked_at: str) -> Finding:
    """That a host could not be asked, when, and why."""
    at = f" ({error.where})" if error.where and error.where != host else ""
    log_in = Remedy(
        title="log in once by hand; what needs an answer there cannot work here",
        commands=(("ssh", "-o", "BatchMode=yes", "--", host, "true"),),
    )  # fmt: skip
    remedy = log_in if isinstance(error, LineError) else error.remedy
    words = f"it was not judged: {error.message}{at}; asked over ssh at {asked_at}"
    return codes.HOST.finding(Status.UNVERIFIED, host, words, remedy, evidence={"host": host, "asked_at": asked_at})


def _labelled(host: str, item: Finding) -> Finding:
    return replace(item, subject=f"{host}: {item.subject}", evidence={**item.evidence, "host": host})


def say(host: str, error: PreflightError) -> None:
    """On stderr, why a host gave nothing."""
    where = f" ({error.where})" if error.where and error.where != host else ""
    options.write_stderr(f"cgroup-preflight: {plain(f'{host}: {error.message}{where}')}\n")
