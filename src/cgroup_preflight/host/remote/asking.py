"""Asks a machine many questions in one round trip: over SFTP what SFTP can answer, the rest in one batch of the shell."""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

from cgroup_preflight.core.reading import Known, Missing, Reading, Why
from cgroup_preflight.core.report import Remedy
from cgroup_preflight.host.remote.grouped import outputs_of, scripts_of
from cgroup_preflight.host.remote.line import Budget, Line, LineError
from cgroup_preflight.host.remote.questions import Question, job_of, reading_of, source_of
from cgroup_preflight.host.remote.sftp import INTERRUPTED, Job, Sftp
from cgroup_preflight.host.remote.shell import Output, Script, Shell

T = TypeVar("T")
#: What a name takes in memory besides its letters, at most.
_NAME_BYTES = 64


class Asker:
    """The lines to one machine, each made when it is needed first.

    `open_files` makes a line to an SFTP server; where none answers, or there is no such line, the shell answers for it.
    `round_trips` counts how often this tool waited for the machine. What a machine answers wrongly, or not in time, loses
    it for good: `lost` says why then, and every reading says it, too.
    """

    def __init__(self, open_shell: Callable[[], Line], open_files: Callable[[], Line] | None) -> None:
        self._open_shell, self._open_files = open_shell, open_files
        self._shell: Shell | None = None
        self._sftp: Sftp | None = None
        #: One call at a time: its questions go out on both lines, and their answers are collected in order.
        self._lock = threading.Lock()
        self._lines: list[Line] = []
        self._budget: Budget | None = None
        self.round_trips = 0
        #: Counts the SFTP sessions: a handle is of one, and means another file in the next one.
        self.session = 0
        self.lost = ""

    @contextmanager
    def bounded(self, seconds: float, most: int) -> Iterator[None]:
        """Loses the machine if its answers take longer, or are longer than `most` bytes, in all calls of this context.

        Each call has its own, smaller bounds besides: a machine that answers drop by drop stays within those.
        """
        before = self._budget
        self._spend(Budget(seconds, most, before))
        try:
            yield
        finally:
            self._spend(before)

    def _spend(self, budget: Budget | None) -> None:
        self._budget = budget
        for line in self._lines:
            line.budget = budget

    def count(self) -> None:
        """Counts a round trip on a further line."""
        self.round_trips += 1

    def opened(self, opens: Callable[[], Line]) -> Line:
        """A further line, whose answers count together with the others."""
        line = opens()
        line.budget = self._budget
        self._lines = [*(one for one in self._lines if not one.lost), line]
        return line

    def _weighed(self, reading: Reading[object]) -> Reading[object]:
        """The reading, after its names are counted for what they take in memory. Raises LineError."""
        if self._budget is not None and isinstance(reading, Known) and isinstance(reading.value, tuple):
            much = self._budget.spend(_NAME_BYTES * len(reading.value))
            if much:
                raise LineError(much, remedy=_REMEDY)
        return reading

    def ask(self, questions: Sequence[Question]) -> list[Reading[object]]:
        """The answers in order."""
        with self._lock:
            return self._ask(questions)

    def _ask(self, questions: Sequence[Question]) -> list[Reading[object]]:
        try:
            readings = self._asked(questions)
            vague = [place for place, found in enumerate(readings) if _is_vague(found)]
            if vague and self._sftp is not None:
                # SFTP has no word for most errors of the system, the programs of the shell have.
                for place, found in zip(vague, self._by_shell([questions[place] for place in vague]), strict=True):
                    readings[place] = found
        except LineError as error:
            self._lose(error)
            return [Missing(source=source_of(one), why=Why.FAILED, detail=self.lost) for one in questions]
        return readings

    def scripts(self, scripts: Sequence[Script]) -> list[Output]:
        """The outputs of scripts. Raises LineError."""
        with self._lock:
            return self._scripts(scripts)

    def _scripts(self, scripts: Sequence[Script]) -> list[Output]:
        try:
            shell = self._usable_shell()
            self.round_trips += 1
            return shell.run(scripts)
        except LineError as error:
            raise self._lose(error) from None

    def job(self, job: "Job[T]", otherwise: Callable[[], T]) -> T:
        """The result of an SFTP job, or without an SFTP server of `otherwise`. Raises LineError."""
        return self.jobs([job], lambda: [otherwise()])[0]

    def jobs(self, jobs: "Sequence[Job[T]]", otherwise: Callable[[], list[T]]) -> list[T]:
        """As `job`, of several at the same time."""
        with self._lock:
            found = self._jobs(jobs)
        return found if found or not jobs else otherwise()

    def _jobs(self, jobs: "Sequence[Job[T]]") -> list[T]:
        """The results; empty without an SFTP server."""
        try:
            sftp = self._usable_sftp()
            if sftp is not None:
                try:
                    return self._run(sftp, jobs)
                except LineError:
                    self._without_sftp(sftp)
            return []
        except LineError as error:
            raise self._lose(error) from None

    def close(self) -> None:
        """Closes the lines."""
        self.lost = self.lost or "the connection was closed"
        for opened in (self._shell, self._sftp):
            if opened is not None:
                opened.close()

    def _asked(self, questions: Sequence[Question]) -> list[Reading[object]]:
        if self._open_files is None:
            return self._by_shell(questions)
        jobs = {place: job for place, one in enumerate(questions) if (job := job_of(one)) is not None}
        rest = [place for place in range(len(questions)) if place not in jobs]
        found: dict[int, Reading[object]] = {}
        before = self.round_trips
        shell = self._usable_shell() if rest else None
        posted = shell.post(scripts_of([questions[place] for place in rest])) if shell else None
        sftp = self._usable_sftp() if jobs else None
        if sftp is not None:
            try:
                answers = self._run(sftp, list(jobs.values()))
            except LineError:
                self._without_sftp(sftp)
            else:
                found |= zip(jobs, map(self._weighed, answers), strict=True)
        if shell and posted:
            outputs = outputs_of([questions[place] for place in rest], shell.collect(posted))
            self.round_trips = max(self.round_trips, before + 1)
            found |= zip(rest, self._read([questions[place] for place in rest], outputs), strict=True)
        missed = [place for place in range(len(questions)) if place not in found]
        if missed:
            found |= zip(missed, self._by_shell([questions[place] for place in missed]), strict=True)
        return [found[place] for place in range(len(questions))]

    def _by_shell(self, questions: Sequence[Question]) -> list[Reading[object]]:
        if not questions:
            return []
        shell = self._usable_shell()
        self.round_trips += 1
        outputs = outputs_of(questions, shell.run(scripts_of(questions)))
        return self._read(questions, outputs)

    def _read(self, questions: Sequence[Question], outputs: Sequence[Output]) -> list[Reading[object]]:
        return [self._weighed(reading_of(one, output)) for one, output in zip(questions, outputs, strict=True)]

    def _run(self, sftp: Sftp, jobs: "Sequence[Job[T]]") -> list[T]:
        before = sftp.round_trips
        found = sftp.run(jobs)
        self.round_trips += sftp.round_trips - before
        return found

    def _without_sftp(self, sftp: Sftp) -> None:
        """The shell takes over where no SFTP server answered before; raises LineError where one did."""
        if sftp.begun:
            raise self._lose(LineError(sftp.lost, remedy=_REMEDY))
        sftp.close()
        self._sftp = self._open_files = None

    def _usable_shell(self) -> Shell:
        self._require()
        if self._shell is None:
            self._shell = Shell(self.opened(self._open_shell))
        return self._shell

    def _usable_sftp(self) -> Sftp | None:
        self._require()
        if self._sftp is not None and self._sftp.lost == INTERRUPTED:
            self._sftp.close()
            self._sftp = None
        if self._sftp is None and self._open_files is not None:
            self._sftp = Sftp(self.opened(self._open_files))
            self.session += 1
        return self._sftp

    def _require(self) -> None:
        if self.lost:
            raise LineError(self.lost, remedy=_REMEDY)

    def _lose(self, error: LineError) -> LineError:
        self.lost = self.lost or error.message
        return LineError(self.lost, where=error.where, remedy=error.remedy)


_REMEDY = Remedy(title="look at the machine and its connection")


def _is_vague(reading: Reading[object]) -> bool:
    return isinstance(reading, Missing) and reading.why is Why.FAILED and reading.errno is None
