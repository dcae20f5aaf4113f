"""An SFTP client over a line: many jobs at the same time, each a generator that yields its requests and gets the answers.

A job yields a list of requests, which go out at once, and is resumed with their answers in order. All jobs of a call share
the line, so that a call takes as many round trips as its longest job, however many jobs it has. For one thread at a time.
"""

import time
from collections import deque
from collections.abc import Generator, Sequence
from typing import Any, TypeVar

from cgroup_preflight.core.records import dataclass
from cgroup_preflight.host.remote.line import Line
from cgroup_preflight.host.remote.sftp_packets import INIT, VERSION, Fields, Packets, Raw, Reply, packet

T = TypeVar("T")
#: Jobs under way at the same time: each may have a file open at the other end.
_WINDOW = 64
_SECONDS = 20.0
#: For a whole call, however long its answers are.
_CALL_SECONDS = 120.0
_EXTENSIONS_MAX = 64
#: What the answers of one call may have together.
_BYTES_MAX = 128 << 20
#: Why a session is over that another one can replace.
INTERRUPTED = "a call was interrupted"


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One request; without `answered` the job does not wait for the answer, and does not see it."""

    kind: int
    fields: tuple[int | bytes, ...]
    answered: bool = True


Job = Generator[Sequence[Request], list[Reply], T]


class _Running:
    """A job under way: its place among the results, the answers to its latest requests, and how many are missing."""

    def __init__(self, place: int, job: "Job[Any]") -> None:
        self.place, self.job = place, job
        self.answers: list[Reply | None] = []
        self.missing = 0
        self.begun = False
        self.depth = 0


class Sftp:
    """One session; `round_trips` counts how often an answer had to come before the next request could go out."""

    def __init__(self, line: Line, seconds: float = _SECONDS) -> None:
        self._line, self._seconds = line, seconds
        self._packets = Packets()
        self._number = 0
        #: By the number of a request: its job and the place of the answer; None for an answer that nobody waits for.
        self._asked: dict[int, tuple[_Running, int] | None] = {}
        self.extensions: dict[bytes, bytes] | None = None
        self.round_trips = 0
        line.send(packet(INIT, 3))

    @property
    def begun(self) -> bool:
        """Whether an SFTP server has answered."""
        return self.extensions is not None

    @property
    def lost(self) -> str:
        """Why nothing can be asked any more; empty while it can."""
        return self._line.lost

    def run(self, jobs: "Sequence[Job[T]]") -> list[T]:
        """The results of all jobs, in order. Raises LineError."""
        try:
            return self._run(jobs)
        except ValueError as error:
            raise self._line.fail(f"an answer that is not SFTP: {error}") from None
        except BaseException:
            # What is under way would answer later calls.
            self._line.fail(INTERRUPTED)
            raise

    def close(self) -> None:
        """Ends the session."""
        self._line.close()

    def _run(self, jobs: "Sequence[Job[T]]") -> list[T]:
        results: dict[int, T] = {}
        waiting = deque(_Running(place, job) for place, job in enumerate(jobs))
        self._line.allow(_BYTES_MAX)
        until, active, depth = time.monotonic() + _CALL_SECONDS, 0, 0
        while len(results) < len(jobs):
            while waiting and active < _WINDOW:
                active += 1
                active -= self._step(waiting.popleft(), results)
            if not active:
                continue
            running = self._receive(until)
            if running is not None:
                depth = max(depth, running.depth)
                active -= self._step(running, results)
        self.round_trips += depth
        return [results[place] for place in range(len(jobs))]

    def _step(self, running: _Running, results: dict[int, Any]) -> bool:
        """Resumes a job with its answers and sends what it asks next; whether it has ended."""
        answers = [answer for answer in running.answers if answer is not None]
        try:
            while True:
                requests = running.job.send(answers) if running.begun else next(running.job)
                running.begun = True
                self._ask(running, requests)
                if running.missing:
                    running.depth += 1
                    return False
                answers = []
        except StopIteration as end:
            results[running.place] = end.value
            return True

    def _ask(self, running: _Running, requests: Sequence[Request]) -> None:
        running.answers, running.missing = [], 0
        for request in requests:
            self._number = self._number % 0xFFFFFFFF + 1
            self._line.send(packet(request.kind, self._number, *request.fields))
            if request.answered:
                self._asked[self._number] = (running, len(running.answers))
                running.answers.append(None)
                running.missing += 1
            else:
                self._asked[self._number] = None

    def _receive(self, until: float) -> _Running | None:
        """Takes the next packet; the job whose answers are complete with it. Raises LineError, ValueError."""
        while (found := self._packets.next()) is None:
            self._packets.feed(self._line.receive(min(time.monotonic() + self._seconds, until)))
        running = self._note(*found)
        return None if running is None or running.missing else running

    def _note(self, kind: int, content: bytes) -> _Running | None:
        if self.extensions is None:
            self._greet(kind, content)
            return None
        number = Fields(content).u32()
        if number not in self._asked:
            raise ValueError(f"an answer to request {number}, which was not sent")
        asked = self._asked.pop(number)
        if asked is None:
            return None
        running, place = asked
        running.answers[place] = Reply(kind=kind, body=content[4:])
        running.missing -= 1
        return running

    def _greet(self, kind: int, content: bytes) -> None:
        """The first packet: a version, and pairs of the names and versions of extensions."""
        fields = Fields(content)
        if kind != VERSION or fields.u32() != 3:
            raise ValueError("not version 3 of SFTP")
        found, left = dict[bytes, bytes](), len(content) - 4
        while left > 0:
            name, value = fields.string(), fields.string()
            left -= 8 + len(name) + len(value)
            found[name] = value
            if len(found) > _EXTENSIONS_MAX:
                raise ValueError("too many extensions")
        self.extensions = found


def request(kind: int, *fields: int | bytes | Raw) -> Request:
    """A request whose answer the job waits for."""
    return Request(kind=kind, fields=fields)
