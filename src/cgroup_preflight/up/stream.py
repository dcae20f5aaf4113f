"""One stream of the logs of all services: each line with the name of its service before it."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence

from cgroup_preflight.core.printable import printable
from cgroup_preflight.core.reading import Known, value_or
from cgroup_preflight.core.records import TYPE_CHECKING
from cgroup_preflight.engines.output import Output

if TYPE_CHECKING:
    from typing import Protocol

    from cgroup_preflight.host.door import Files
else:
    Protocol = object

#: Colours of the names (ECMA-48, SGR), no red: that is for what went wrong.
_COLOURS = (36, 33, 32, 35, 34, 96, 93, 92, 95, 94)
#: The colours of a program's own lines, which would look like those of this stream.
_SGR = re.compile(r"\x1b\[[0-9;:]*m")
_READ_MAX = 1 << 18
_LINE_MAX = 16 << 10
#: The name of this command in the stream.
OWN = "up"


class Lines(Protocol):
    """The form of the lines of a stream."""

    def line(self, name: str, text: str, *, said: bool = False) -> str:
        """A line that a service wrote, or that this command `said` of it; with its end."""


class Prefixes:
    """The text before the lines of each service, all of one width."""

    def __init__(self, names: Sequence[str], *, colour: bool) -> None:
        width = max((len(name) for name in (*names, OWN)), default=0)
        self._texts = {OWN: f"{OWN:<{width}} | "}
        for number, name in enumerate(names):
            text = f"{name:<{width}} | "
            self._texts[name] = f"\033[{_COLOURS[number % len(_COLOURS)]}m{text}\033[0m" if colour else text

    def line(self, name: str, text: str, *, said: bool = False) -> str:  # noqa: ARG002 - as `Wire.line`
        """One line of the stream; control characters of the text are shown and do not act."""
        return f"{self._texts[name]}{printable(_SGR.sub('', text).expandtabs())}\n"


class Tail:
    """What a service writes to its file, from the beginning of that on."""

    def __init__(self, path: str, files: "Files", *, frees: bool = False) -> None:
        self._path, self._files = path, files
        self._output = Output(path) if frees else None
        self._offset = 0
        self._rest = b""

    def read(self, *, last: bool = False) -> list[str]:
        """The whole lines that came since the last call; with `last` also one without a line end."""
        data = value_or(self._files.tail(self._path, self._offset, _READ_MAX), b"")
        if not data and self._was_emptied():
            self._offset = 0
            data = value_or(self._files.tail(self._path, 0, _READ_MAX), b"")
        self._offset += len(data)
        if self._output is not None and data:
            self._output.free_before(self._files, self._offset)
        *lines, self._rest = (self._rest + data).split(b"\n")
        if self._rest and (last or len(self._rest) > _LINE_MAX):
            lines.append(self._rest)
            self._rest = b""
        return [line[:_LINE_MAX].decode("utf-8", "replace").removesuffix("\r") for line in lines]

    def _was_emptied(self) -> bool:
        """Whether somebody made the file shorter; in a guest nobody does, and to ask there takes time."""
        status = self._files.status(self._path) if self._offset and self._output is None else None
        return isinstance(status, Known) and status.value.size < self._offset


class Stream:
    """Prints what the services of one session write; `write` gets whole lines with their ends."""

    def __init__(
        self, lines: "Lines", logs: Mapping[str, str], write: Callable[[str], object], files: "Files", *,
        frees: bool = False,
    ) -> None:  # fmt: skip
        """`logs` are paths in `files` by the name of the service. `frees`: what was printed is freed there."""
        self._lines, self._write = lines, write
        self._tails = {name: Tail(path, files, frees=frees) for name, path in logs.items()}

    def pump(self, *, last: bool = False) -> None:
        """Prints what is new; with `last` all of it, because nobody asks again."""
        for name, tail in self._tails.items():
            # In turns, so that one service that writes a lot does not keep the others from being seen.
            while (lines := tail.read()) and last:
                self._print(name, lines)
            self._print(name, lines or (tail.read(last=True) if last else []))

    def _print(self, name: str, lines: list[str]) -> None:
        if lines:
            self._write("".join(self._lines.line(name, line) for line in lines))

    def say(self, text: str, name: str = OWN) -> None:
        """Prints a line of this command, after what the services wrote before."""
        self.pump()
        self._write(self._lines.line(name, text, said=True))

    def say_all(self, lines: Iterable[str]) -> None:
        """Prints several lines of this command."""
        for line in lines:
            self.say(line)
