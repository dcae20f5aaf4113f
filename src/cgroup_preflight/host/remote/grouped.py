"""Questions for the shell of which one program answers many: starting a program is what costs most at the other end. Pure."""

import re
from collections.abc import Iterator, Sequence

from cgroup_preflight.host.remote.questions import NUMBERS_FORMAT, Kind, Question, script_of
from cgroup_preflight.host.remote.shell import Output, Script, quoted

#: Paths that stat(1) prints as they are, also in what it complains about.
_PLAIN = re.compile(r"/[A-Za-z0-9_./@:,=+-]*", re.ASCII)
_TOGETHER = 100


def groups_of(questions: Sequence[Question]) -> Iterator[Sequence[Question]]:
    """The questions in order, those together that one program answers."""
    group: list[Question] = []
    for question in questions:
        if group and not (_is_grouped(question) and _is_grouped(group[-1]) and len(group) < _TOGETHER):
            yield group
            group = []
        group.append(question)
    if group:
        yield group


def scripts_of(questions: Sequence[Question]) -> list[Script]:
    """A script for each group. Raises ValueError as `script_of`."""
    return [_script(group) for group in groups_of(questions)]


def outputs_of(questions: Sequence[Question], outputs: Sequence[Output]) -> list[Output]:
    """The output for each question, from those of its groups."""
    pairs = zip(groups_of(questions), outputs, strict=True)
    return [found for group, output in pairs for found in (_split(group, output) if len(group) > 1 else (output,))]


def _is_grouped(question: Question) -> bool:
    return question.kind is Kind.NUMBERS and _PLAIN.fullmatch(question.path) is not None


def _script(group: Sequence[Question]) -> Script:
    if len(group) == 1:
        return script_of(group[0])
    return Script(text=f"stat -L -c '{NUMBERS_FORMAT} %n' -- {quoted([one.path for one in group])}")


def _split(group: Sequence[Question], output: Output) -> Iterator[Output]:
    """By the path at the end of each line, and in quotes in each complaint."""
    lines = (line.rpartition(b" ") for line in output.out.splitlines())
    said = {path.decode("utf-8", "replace"): numbers for numbers, _, path in lines}
    complaints = output.err.splitlines()
    for question in group:
        if question.path in said:
            yield Output(out=said[question.path], status=0, err="")
        else:
            own = next((line for line in complaints if f"'{question.path}'" in line), output.err)
            yield Output(out=b"", status=output.status or 1, err=own)
