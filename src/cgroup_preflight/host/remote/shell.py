"""A POSIX shell at the other end of a line: scripts in batches, each with its output, its status and its complaints.

The shell reads scripts from its standard input and ends with it. Each batch has a random word of its own, which its
frames consist of: no other user of the machine can know it, and what the login printed, or an earlier batch left, is
skipped. Every command has a limit of time at the other end, too, so that none stays when the line is lost.
"""

import os
import shlex
import time
from collections.abc import Sequence

from cgroup_preflight.core.printable import printable
from cgroup_preflight.core.records import dataclass
from cgroup_preflight.host.remote.line import Line, LineError

#: What a login may print before the first frame, bytes.
_NOISE_MAX = 256 * 1024
#: Output of one script at most, bytes.
OUTPUT_MAX = 4 << 20
#: What the answers of one batch may have together.
_BYTES_MAX = 128 << 20
_START_SECONDS = 30.0
_GRACE_SECONDS = 10.0
#: `t N COMMAND...` runs a command for at most N seconds. What the caller does not need to inherit is not passed on.
_PROLOGUE = """\
unset ENV BASH_ENV CDPATH
LC_ALL=C.UTF-8; export LC_ALL
PATH="${PATH:-/usr/bin:/bin}:/usr/local/sbin:/usr/sbin:/sbin"; export PATH
exec 3>&1
if command -v timeout >/dev/null 2>&1; then t() { timeout -k 2 "$@"; }; else t() { shift; "$@"; }; fi
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """A script for the shell, without a line that ends it; `seconds` is what it may take. `most` bounds its output."""

    text: str
    seconds: float = 20.0
    most: int = OUTPUT_MAX


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """What a script printed, its exit status, and its complaints."""

    out: bytes
    status: int
    err: str


class Shell:
    """One shell, for one thread at a time; `round_trips` counts the batches. Methods raise LineError."""

    def __init__(self, line: Line) -> None:
        self._line = line
        self._data = bytearray()
        self._begun = False
        #: Until when a batch may work whose outputs nobody collected, because the call was interrupted.
        self._busy = 0.0
        self.round_trips = 0

    @property
    def lost(self) -> str:
        """Why nothing can be asked any more; empty while it can."""
        return self._line.lost

    def run(self, scripts: Sequence[Script]) -> list[Output]:
        """The outputs of scripts, which run one after another."""
        return self.collect(self.post(scripts))

    def post(self, scripts: Sequence[Script]) -> "Posted":
        """Sends scripts, whose outputs `collect` returns later; meanwhile, something else can be asked elsewhere."""
        word = os.urandom(16).hex()
        text = [] if self._begun else [_PROLOGUE]
        text.append(_said(word, "begin"))
        for script in scripts:
            # A group, so that a script that fails to be read does not hide the next one, with its errors kept apart.
            text.append(
                f"e=$({{ {script.text}\n}} 2>&1 >&3 3>&- </dev/null); s=$?\n"
                f'{_said(word, "end", status=True)}printf "%s" "$e"\n{_said(word, "over")}'
            )
        self._line.send("".join(text).encode("utf-8", "surrogateescape"))
        self._line.push()
        self.round_trips += 1
        begins = max(time.monotonic(), self._busy)
        self._busy = begins + sum(script.seconds for script in scripts)
        return Posted(word=word, scripts=tuple(scripts), begins=begins)

    def collect(self, posted: "Posted") -> list[Output]:
        """The outputs of what was posted."""
        self._line.allow(_BYTES_MAX)
        until = posted.begins + (_GRACE_SECONDS if self._begun else _START_SECONDS)
        self._until(_mark(posted.word, "begin"), until, OUTPUT_MAX if self._begun else _NOISE_MAX)
        self._begun = True
        found = []
        for script in posted.scripts:
            until = time.monotonic() + script.seconds + _GRACE_SECONDS
            out = self._until(_mark(posted.word, "end"), until, script.most)
            status = self._until(b"\n", until, 8)
            err = self._until(_mark(posted.word, "over"), until, OUTPUT_MAX)
            if not status.isdigit() or len(status) > 3:
                raise self._line.fail("the shell at the other end answers what is no exit status")
            found.append(Output(out=out, status=int(status), err=err.decode("utf-8", "replace")))
        self._busy = 0.0
        return found

    def close(self) -> None:
        """Ends the shell."""
        self._line.close()

    def _until(self, mark: bytes, until: float, most: int) -> bytes:
        """What comes before `mark`, which is dropped. Raises LineError where that is more than `most` bytes."""
        searched = 0
        while (at := self._data.find(mark, searched)) < 0:
            if len(self._data) > most + len(mark):
                raise self._line.fail(f"more than {most} bytes in place of an answer")
            searched = max(len(self._data) - len(mark), 0)
            self._receive(until)
        if at > most:
            raise self._line.fail(f"more than {most} bytes in place of an answer")
        found = bytes(self._data[:at])
        del self._data[: at + len(mark)]
        return found

    def _receive(self, until: float) -> None:
        try:
            self._data += self._line.receive(until)
        except LineError:
            if self._begun:
                raise
            raise self._no_shell() from None

    def _no_shell(self) -> LineError:
        """Why there is no shell: what the login printed says it best."""
        said = [line.strip() for line in self._data.decode("utf-8", "replace").splitlines() if line.strip()]
        reason, self._line.lost = self._line.lost, ""
        words = f"; it says: {printable(said[-1])[:200]}" if said else ""
        return self._line.fail(f"no shell answers there: {reason}{words}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Posted:
    """Scripts that were sent, the word of their frames, and when they begin at the latest (time.monotonic())."""

    word: str
    scripts: tuple[Script, ...]
    begins: float


def quoted(words: Sequence[str]) -> str:
    """Words of a command for the shell. Raises ValueError for one with a NUL, which no command can have."""
    if any("\0" in word for word in words):
        raise ValueError("a NUL in a word of a command")
    return shlex.join(words)


def _mark(word: str, place: str) -> bytes:
    return f"\n{word} {place}\n".encode() if place != "end" else f"\n{word} end ".encode()


def _said(word: str, place: str, *, status: bool = False) -> str:
    """Prints a mark. Its word is in two parts here: where the line has an echo, that is no mark."""
    half = len(word) // 2
    end = ' "$s"' if status else ""
    return f"printf '\\n%s%s {place}{' %s' if status else ''}\\n' {word[:half]} {word[half:]}{end}\n"


def octal(data: bytes) -> str:
    """Bytes as a format of printf(1): every shell has it, and no program is needed that could be missing."""
    return "".join(f"\\{byte:03o}" for byte in data)
