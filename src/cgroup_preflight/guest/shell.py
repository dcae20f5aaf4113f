"""A POSIX shell at the other end of a line: takes one command text, answers with its output and exit status.

Nothing of a program reaches the shell unquoted. An answer ends with a random word that the programs do not know.
"""

import os
import shlex
import time

from cgroup_preflight.guest.line import WINDOW, Line, LineError

#: Bytes of an answer at most, and of the output of one command.
ANSWER_MAX = 64 << 20
#: Where a text that is longer than a line takes at once is put together.
_SCRIPT = "/run/preflight/script"
#: Bytes of the text in one piece; quotes can make five of one.
_PIECE = 320
_TEXT_MAX = 1200
_GO = b"go\n"


class Shell:
    """One shell; for one thread. `window`: bytes that the line takes without an answer, 0 for any number.

    Methods raise LineError for a guest that does not answer, and for an answer that is too long.
    """

    def __init__(self, line: Line, name: str, *, window: int = WINDOW) -> None:
        self._line = line
        self._name = name
        self._window = window
        self._ends = b""
        self._answer = bytearray()

    def fileno(self) -> int:
        """The descriptor of the line, which is readable when something comes."""
        return self._line.fileno()

    def ask(self, text: str, *, seconds: float = 20.0) -> tuple[int, bytes]:
        """Runs `text` (complete commands, no input); its exit status and what it printed, within `seconds`."""
        self.begin(text)
        answer = self.wait(seconds)
        if answer is None:
            raise LineError(f"gave no answer for {seconds:.0f} s")
        return answer

    def begin(self, text: str) -> None:
        """Gives `text` to the shell; `wait` has the answer."""
        if self._ends:
            raise ValueError("the shell has not answered the last command")
        data = text.encode("utf-8", "surrogateescape")
        if self._window and len(data) > _TEXT_MAX:
            self._put_together(text)
            text = f". {_SCRIPT}-{self._name}"
        self._send(text)

    def wait(self, seconds: float) -> tuple[int, bytes] | None:
        """The answer to the last command, None if it has not come within `seconds`."""
        deadline = time.monotonic() + seconds
        while not self.has_ended():
            if not self._line.waits(deadline - time.monotonic()):
                return None
            self._read()
        at = self._answer.rfind(self._ends)
        status = self._answer[at + len(self._ends) :].strip()
        output = bytes(self._answer[:at])
        self._ends, self._answer = b"", bytearray()
        return (int(status) if status.isdigit() else 255), output

    def some(self, seconds: float) -> bytes:
        """What the running command has printed since the last call, as soon as there is something; the end is left to `wait`."""
        size = self._shown()
        if not size and not self.has_ended() and self._line.waits(seconds):
            self._read()
            size = self._shown()
        shown = bytes(self._answer[:size])
        del self._answer[:size]
        return shown

    def first_line(self, seconds: float) -> bytes:
        """The first line that the running command prints, without its end; removed from the answer."""
        deadline = time.monotonic() + seconds
        while (at := self._answer.find(b"\n")) < 0:
            if not self._line.waits(deadline - time.monotonic()):
                raise LineError(f"gave no answer for {seconds:.0f} s")
            self._read()
        found = bytes(self._answer[:at])
        # The line's end may be the beginning of the end of the answer.
        del self._answer[:at]
        return found

    def has_ended(self) -> bool:
        """Whether the answer to the last command has come as a whole."""
        return self._ends in self._answer and self._answer.endswith(b"\n")

    def type(self, data: bytes) -> None:
        """Sends `data` to the running command, which reads the line."""
        self._line.sendall(data)

    def write(self, path: str, data: bytes) -> None:
        """Writes a file of the guest with this content."""
        place = shlex.quote(path)
        step = self._window or max(len(data), 1)
        self._must(f"printf '' > {place}")
        for at in range(0, len(data), step):
            piece = data[at : at + step]
            self._send(f"printf '{_GO.decode()[:-1]}\\n'; head -c {len(piece)} >> {place}")
            # Not before the program reads: the shell would take it for its next command.
            if self._line.read(len(_GO)) != _GO:
                raise LineError("sent something that is no answer")
            self._line.sendall(piece)
            self._done(path)

    def _read(self) -> None:
        more = self._line.some()
        if not more:
            raise LineError("ended")
        self._answer += more
        if len(self._answer) > ANSWER_MAX:
            raise LineError(f"printed more than {ANSWER_MAX >> 20}M")

    def _shown(self) -> int:
        """How many bytes of the answer come before its end, or before what may be the beginning of its end."""
        at = self._answer.find(self._ends)
        most = min(len(self._ends), len(self._answer))
        begun = next((size for size in range(most, 0, -1) if self._answer.endswith(self._ends[:size])), 0)
        return at if at >= 0 else len(self._answer) - begun

    def _must(self, text: str) -> None:
        self._send(text)
        self._done(text[:40])

    def _done(self, what: str) -> None:
        answer = self.wait(self._line.seconds)
        if answer is None or answer[0] != 0:
            raise LineError(f"could not write {what}")

    def _put_together(self, text: str) -> None:
        place = f"{_SCRIPT}-{self._name}"
        for at in range(0, len(text), _PIECE):
            sign = ">>" if at else ">"
            self._must(f"printf %s {shlex.quote(text[at : at + _PIECE])} {sign} {place}")

    def _send(self, text: str) -> None:
        word = os.urandom(12).hex()
        self._ends = f"\n{word} ".encode()
        self._line.sendall(f"{text}\nprintf '\\n{word} %s\\n' $?\n".encode("utf-8", "surrogateescape"))
