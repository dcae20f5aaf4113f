"""Reads the facts of a machine in few round trips, with the readers that also read this machine.

A reader asks one question after another. Here it runs in rounds: what is not known yet is noted, and answered as missing;
then all that was noted is asked at once, and the reader runs again, until it finds everything known. So the number of
rounds is how deep its questions depend on each other, not how many they are. A reader must not keep anything from one
run to the next. Commands are sent only when no file is missing any more: none runs because of a half-known machine.
"""

from collections.abc import Callable
from typing import TypeVar, cast

from cgroup_preflight.core.errors import HostError, PreflightError
from cgroup_preflight.core.reading import Missing, Reading, Why
from cgroup_preflight.core.report import Remedy
from cgroup_preflight.host.command import Completed
from cgroup_preflight.host.remote.asking import Asker
from cgroup_preflight.host.remote.line import LineError
from cgroup_preflight.host.remote.questions import Kind, Question, source_of
from cgroup_preflight.host.remote.readings import AskedReadings

T = TypeVar("T")
#: More rounds than any reader needs; a machine whose answers lead to new questions without end is given up.
_ROUNDS_MAX = 40
_QUESTIONS_MAX = 200_000
#: What all answers of one reading may take together: seconds, and bytes, which are all in memory at its end.
SECONDS, BYTES_MAX = 300.0, 128 << 20
_REMEDY = Remedy(title="look at the machine and its connection")


class Answers:
    """What is known so far, and what was asked in this round and is not known yet."""

    def __init__(self, known: dict[Question, Reading[object]]) -> None:
        self._known = known
        self.open: dict[Question, None] = {}
        self.used: dict[Question, None] = {}

    def of(self, question: Question) -> Reading[object]:
        """The answer, or for now that there is none."""
        self.used[question] = None
        found = self._known.get(question)
        if found is not None:
            return found
        self.open[question] = None
        return Missing(source=source_of(question), why=Why.NOT_RECORDED, detail="not asked yet")


class AskedFs(AskedReadings):
    """As `HostFs`, and of `MachineFs` what readers of facts need."""

    def __init__(self, answers: Answers) -> None:
        self.answers = answers

    def _ask(self, kind: Kind, path: str = "", name: str = "") -> Reading[object]:
        return self.answers.of(Question(kind=kind, path=path, words=(name,) if name else ()))

    def tree(self, path: str) -> Reading[tuple[tuple[str, int], ...]]:
        """All folders in and below a folder: the path below it, empty for itself, and the inode number; needs GNU find."""
        return cast("Reading[tuple[tuple[str, int], ...]]", self._ask(Kind.TREE, path))


class AskedRunner:
    """As `CommandRunner`."""

    def __init__(self, answers: Answers) -> None:
        self._answers = answers

    def run(self, argv: tuple[str, ...], *, timeout: float = 20.0, stdin: bytes = b"") -> Reading[Completed]:
        """As `CommandRunner.run`; the same command is run once in all rounds."""
        question = Question(kind=Kind.COMMAND, words=argv, seconds=timeout, stdin=stdin)
        return cast("Reading[Completed]", self._answers.of(question))


class Rounds:
    """Reads one machine again and again; the first round of a reading asks what the one before it needed."""

    def __init__(self, asker: Asker) -> None:
        self._asker = asker
        self._before: tuple[Question, ...] = ()

    def read(self, reader: Callable[[AskedFs, AskedRunner], T]) -> T:
        """What the reader returns in the round that left nothing open, or raises there. Raises HostError for a lost machine.

        A machine whose answers together are longer than BYTES_MAX, or take longer than SECONDS, is lost.
        """
        with self._asker.bounded(SECONDS, BYTES_MAX):
            return self._read(reader)

    def _read(self, reader: Callable[[AskedFs, AskedRunner], T]) -> T:
        known: dict[Question, Reading[object]] = {}
        todo: tuple[Question, ...] = self._before
        for _ in range(_ROUNDS_MAX):
            if todo:
                known.update(zip(todo, self._asker.ask(todo), strict=True))
            if self._asker.lost:
                raise LineError(self._asker.lost, remedy=_REMEDY)
            answers, result = Answers(known), list[T]()
            problem: PreflightError | None = None
            try:
                result.append(reader(AskedFs(answers), AskedRunner(answers)))
            except PreflightError as error:
                problem = error
            commands = tuple(question for question in answers.open if question.kind is Kind.COMMAND)
            todo = tuple(question for question in answers.open if question.kind is not Kind.COMMAND) or commands
            if not todo:
                self._before = tuple(question for question in answers.used if question.kind is not Kind.COMMAND)
                if problem is not None:
                    raise problem
                return result[0]
            if len(known) + len(todo) > _QUESTIONS_MAX:
                break
        raise HostError("its answers lead to new questions without end", remedy=_REMEDY)
