"""QEMU's monitor: one command, one answer (QMP, docs/interop/qmp-spec.rst of QEMU), always within a time limit."""

import json
import socket
import time
from typing import Any

#: Bytes of one answer. Those to our commands have some hundred.
_LONGEST = 1 << 20


class MonitorError(Exception):
    """QEMU no longer answers, or refused a command; the message says which."""


class RefusedError(MonitorError):
    """QEMU refused a command."""


class Monitor:
    """The monitor at `line`; each answer must come within `seconds`. Raises MonitorError."""

    def __init__(self, line: socket.socket, *, seconds: float) -> None:
        self._line = line
        self._seconds = seconds
        self._buffer = b""
        if "QMP" not in self._answer(time.monotonic() + seconds):
            raise MonitorError("did not greet")
        self.ask("qmp_capabilities")

    def ask(self, command: str, *, descriptor: int | None = None, **arguments: object) -> dict[str, Any]:
        """The answer to a command, with a descriptor if the command takes one."""
        words = {name.replace("_", "-"): value for name, value in arguments.items()}
        data = json.dumps({"execute": command, "arguments": words}).encode() + b"\n"
        deadline = time.monotonic() + self._seconds
        try:
            self._line.settimeout(self._seconds)
            socket.send_fds(self._line, [data], [] if descriptor is None else [descriptor])
        except OSError as error:
            raise MonitorError(f"took no command ({error.strerror or error})") from None
        while True:
            answer = self._answer(deadline)
            if "error" in answer:
                raise RefusedError(f"refused {command}: {str(answer['error'])[:200]}")
            # Anything else is an event.
            if isinstance(found := answer.get("return"), dict):
                return found

    def _answer(self, deadline: float) -> dict[str, Any]:
        while b"\n" not in self._buffer:
            left = deadline - time.monotonic()
            if left <= 0 or len(self._buffer) > _LONGEST:
                raise MonitorError(f"gave no answer for {self._seconds:.0f} s")
            self._line.settimeout(left)
            try:
                chunk = self._line.recv(1 << 16)
            except OSError as error:
                raise MonitorError(f"gave no answer ({error.strerror or error})") from None
            if not chunk:
                raise MonitorError("ended")
            self._buffer += chunk
        text, _, self._buffer = self._buffer.partition(b"\n")
        try:
            answer = json.loads(text)
        except ValueError:
            raise MonitorError("sent something that is not JSON") from None
        return answer if isinstance(answer, dict) else {}
