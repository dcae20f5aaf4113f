"""The lines of an `up` in a guest, on their way to this host: JSON, one line each. What comes from there may be hostile."""

import ipaddress
import json
import os
from collections.abc import Callable, Iterable, Mapping

from cgroup_preflight.core.errors import HostError, UsageError
from cgroup_preflight.core.report import Remedy
from cgroup_preflight.up.stream import OWN, Prefixes

#: A line of the stream has 16 KiB at most, of which JSON can make six times as much.
_LINE_MAX = 1 << 18
_WRONG = Remedy(title="start it again; if it happens again, a service has changed the guest's system")


class Wire:
    """Lines for another `up`: the name of the service, whether this command says it, and the text."""

    @staticmethod
    def line(name: str, text: str, *, said: bool = False) -> str:
        """One line with its end."""
        return json.dumps([name, said, text]) + "\n"

    @staticmethod
    def listens(name: str, address: str, port: int) -> str:
        """That a service listens at a TCP port; a line with its end."""
        return json.dumps({"service": name, "address": address, "port": port}) + "\n"


class Arrived:
    """Prints what arrives from an `up` in a guest, and writes what the services wrote to the files of their logs."""

    def __init__(self, prefixes: Prefixes, files: Mapping[str, str], write: Callable[[str], None]) -> None:
        """`files` are empty logs by the name of the service. Raises UsageError."""
        self._prefixes, self._write = prefixes, write
        #: Called with a service, and the address and port at which it begins to listen.
        self.listens: Callable[[str, str, int], None] = lambda _name, _address, _port: None
        self._rest = b""
        self._logs: dict[str, int] = {}
        try:
            for name, path in files.items():
                self._logs[name] = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError as error:
            self.close()
            raise UsageError(f"cannot write the log: {error.strerror}", where=path,
                             remedy=Remedy(title="set XDG_STATE_HOME to a folder that can be written")) from None  # fmt: skip

    def take(self, data: bytes) -> None:
        """The next bytes. Raises HostError for what is no line of `up`."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > _LINE_MAX:
            raise HostError("a line from the guest has no end", where="up", remedy=_WRONG)
        self._write("".join(self._shown(line) for line in lines))

    def say(self, text: str) -> None:
        """Prints a line of this command."""
        self._write(self._prefixes.line(OWN, text))

    def say_all(self, lines: Iterable[str]) -> None:
        """Prints several lines of this command."""
        for line in lines:
            self.say(line)

    def close(self) -> None:
        """Closes the logs."""
        for handle in self._logs.values():
            os.close(handle)
        self._logs.clear()

    def _shown(self, line: bytes) -> str:
        try:
            found = json.loads(line)
            if isinstance(found, dict):
                self._note(**found)
                return ""
            name, said, text = found
        except (ValueError, TypeError, RecursionError):
            name = said = text = None
        whole = isinstance(name, str) and isinstance(text, str) and isinstance(said, bool)
        if not whole or not (name in self._logs or (name == OWN and said)):
            raise HostError("the guest sent what is no line of `up`", where="up", remedy=_WRONG)
        if not said:
            os.write(self._logs[name], f"{text}\n".encode("utf-8", "replace"))
        return self._prefixes.line(name, text)

    def _note(self, service: str, address: str, port: int) -> None:
        """Raises ValueError, TypeError for what is no address of a service."""
        if service not in self._logs or type(port) is not int or not 0 < port < 1 << 16:
            raise ValueError(service)
        # A number would be an address, too.
        self.listens(service, str(ipaddress.ip_address(f"{address}")), port)
