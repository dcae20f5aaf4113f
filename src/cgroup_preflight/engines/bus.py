"""systemd's private socket: what `systemctl` asks, without a process for each question. Root only.

The part of the D-Bus protocol that this needs (D-Bus Specification 0.43, "Message Protocol", "Type System"): calls with strings
as arguments, several under way at the same time, and answers of any type. It is systemd's own way to its manager, and
`systemctl` uses the same socket. Where the socket is missing, or an answer is odd, `BusError` tells the caller to use
`systemctl` instead.
"""

import os
import struct
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

from cgroup_preflight.core.records import TYPE_CHECKING, dataclass
from cgroup_preflight.engines.bus_reader import Reader
from cgroup_preflight.engines.bus_values import padded, text, unit_properties
from cgroup_preflight.host.manager_line import MANAGER_SOCKET, unix_stream

if TYPE_CHECKING:
    from typing import Protocol

    from cgroup_preflight.host.door import Stream
else:
    Protocol = object

_MANAGER = ("/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager")
_PROPERTIES = "org.freedesktop.DBus.Properties"
#: Properties of slices, with their interfaces.
_OF_SLICES = (
    ("FragmentPath", "org.freedesktop.systemd1.Unit"), ("ControlGroup", "org.freedesktop.systemd1.Slice"),
)  # fmt: skip
_SERVICE = "org.freedesktop.systemd1.Service"
_CALL, _ANSWER, _ERROR = 1, 2, 3
_PATH, _INTERFACE, _MEMBER, _REPLY_TO, _DESTINATION, _SIGNATURE = 1, 2, 3, 5, 6, 8
#: With hundreds of units that start at the same time, systemd answers after a while; to ask again only adds to its work.
_SECONDS = 30.0
#: systemd reads the end of the greeting together with what follows, up to 256 bytes. It looks at calls that it read in
#: that way only when more data arrives, so more is always sent.
_AT_LEAST = 1024
_MESSAGE_MAX = 8 << 20
#: In place of an answer.
REFUSED = object()


class BusError(Exception):
    """No answer, or one that cannot be understood."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One method call; arguments are strings, and the last one a number (`i`) or strings (`as`); or `body` (signature, bytes)."""

    path: str
    interface: str
    member: str
    words: tuple[str, ...] = ()
    number: int | None = None
    listed: tuple[str, ...] | None = None
    body: tuple[str, bytes] | None = None
    #: Of an answer `a{sv}`, the pairs that are wanted; None for all of any answer.
    wanted: frozenset[str] | None = None


_NOTHING = Call(path="/", interface="org.freedesktop.DBus.Peer", member="Ping")


def start(units: Sequence[str]) -> list[Call]:
    """Queues the start of units, as `systemctl start --no-block` does."""
    return [
        Call(path=_MANAGER[0], interface=_MANAGER[1], member="StartUnit", words=(unit, "replace")) for unit in units
    ]


def stop(units: Sequence[str]) -> list[Call]:
    """As `systemctl stop --no-block`."""
    return [Call(path=_MANAGER[0], interface=_MANAGER[1], member="StopUnit", words=(unit, "replace")) for unit in units]


def kill(units: Sequence[str], number: int) -> list[Call]:
    """As `systemctl kill --kill-who=all`."""
    return [
        Call(path=_MANAGER[0], interface=_MANAGER[1], member="KillUnit", words=(unit, "all"), number=number)
        for unit in units
    ]


def set_properties(unit: str, numbers: Mapping[str, int], *, runtime: bool) -> Call:
    """As `systemctl set-property`: all of the properties of a unit, whose values are numbers (`t`), or none."""
    return Call(path=_MANAGER[0], interface=_MANAGER[1], member="SetUnitProperties",
                body=unit_properties(unit, numbers, runtime=runtime))  # fmt: skip


class Connection:
    """The line to the manager: made by the first call, and again by the next one after a failure.

    It stays open, because systemd takes several times longer to let somebody in than to answer. As signals come all the
    time, `seconds` is the limit for all answers to one call. `connect` makes the line: to systemd's own socket, or to a
    `systemd-stdio-bridge` on another machine.
    """

    def __init__(self, connect: "Callable[[], Stream] | None" = None, *, seconds: float = 4 * _SECONDS) -> None:
        self._seconds, self._sent = seconds, 0
        self._connect = connect or (lambda: unix_stream(MANAGER_SOCKET, _SECONDS))
        self._line: Stream | None = None

    def call(self, calls: Sequence[Call]) -> list[object]:
        """What each call returns (its first value, None for nothing), REFUSED where the manager would not. Raises BusError."""
        try:
            return self._converse(calls)
        except (OSError, ValueError, struct.error, IndexError, RecursionError) as error:
            self.close()
            raise BusError(str(error)) from error
        except BaseException:
            # Interrupted in the middle of an answer.
            self.close()
            raise

    def close(self) -> None:
        """Hangs up."""
        if self._line is not None:
            self._line.close()
        self._line, self._sent = None, 0

    def show(self, units: Sequence[str], names: Sequence[str]) -> dict[str, dict[str, str]]:
        """Properties `names` of each unit as `systemctl show` words them; those that its type lacks are left out.

        All properties of a unit are read at one moment, as `systemctl` does.
        """
        wanted = frozenset(names)
        answers = self.call([
            Call(path=_path(unit), interface=_PROPERTIES, member="GetAll", words=("",), wanted=wanted) for unit in units
        ])  # fmt: skip
        return {
            unit: {name: _worded(value) for name, value in answer.items()}
            for unit, answer in zip(units, answers, strict=True)
            if isinstance(answer, dict)
        }

    def of_slices(self, units: Sequence[str]) -> dict[str, dict[str, str]]:
        """FragmentPath and ControlGroup of slices, which takes systemd a tenth of the time of all their properties."""
        found: dict[str, dict[str, str]] = {unit: {} for unit in units}
        for unit, name, value in self._get([(unit, name, kind) for unit in units for name, kind in _OF_SLICES]):
            if isinstance(value, str):
                found[unit][name] = value
        return found

    def states(self, units: Sequence[str]) -> dict[str, dict[str, str]]:
        """ActiveState, SubState and Job of units, as `show` words them, in a tenth of its time; all at one moment.

        Of those in ExecStop also MainPID, which shows whether the program has ended.
        """
        (answer,) = self.call([
            Call(path=_MANAGER[0], interface=_MANAGER[1], member="ListUnitsByNames", listed=tuple(units))
        ])  # fmt: skip
        if not isinstance(answer, list) or not all(isinstance(row, tuple) and len(row) > 7 for row in answer):
            raise BusError("no list of units")
        found = {row[0]: {"ActiveState": row[3], "SubState": row[4], "Job": str(row[7])} for row in answer}
        in_stop = [unit for unit, shown in found.items() if shown["SubState"] == "stop"]
        for unit, name, value in self._get([(unit, "MainPID", _SERVICE) for unit in in_stop]) if in_stop else ():
            found[unit][name] = _worded(value)
        return found

    def _get(self, asked: Sequence[tuple[str, str, str]]) -> Iterator[tuple[str, str, object]]:
        """Single properties, each by its unit, name and interface; those that the unit lacks are left out."""
        answers = self.call([
            Call(path=_path(unit), interface=_PROPERTIES, member="Get", words=(kind, name)) for unit, name, kind in asked
        ])  # fmt: skip
        for (unit, name, _), value in zip(asked, answers, strict=True):
            if value is not REFUSED:
                yield unit, name, value

    def of_manager(self, names: Sequence[str]) -> dict[str, str]:
        """Properties of the manager itself, as `systemctl show` words them."""
        answers = self.call([
            Call(path=_MANAGER[0], interface=_PROPERTIES, member="Get", words=(_MANAGER[1], name)) for name in names
        ])  # fmt: skip
        return {name: _worded(value) for name, value in zip(names, answers, strict=True) if value is not REFUSED}

    def _converse(self, calls: Sequence[Call]) -> list[object]:
        first, self._sent = self._sent, self._sent + len(calls)
        sent = b"".join(_message(one, first + number) for number, one in enumerate(calls, 1))
        if self._line is None:
            self._line = self._connect()
            _log_in(self._line)
            while len(sent) < _AT_LEAST:
                self._sent += 1
                sent += _message(_NOTHING, self._sent)
            sent = b"BEGIN\r\n" + sent
        self._line.sendall(sent)
        answers, until = dict[int, object](), time.monotonic() + self._seconds
        while len(answers) < len(calls):
            if time.monotonic() > until:
                raise TimeoutError("systemd did not answer all calls")
            answers.update(_answer(self._line, calls, first))
        return [answers[number] for number in range(len(calls))]


def _log_in(line: "Stream") -> None:
    line.sendall(b"\0AUTH EXTERNAL " + str(os.geteuid()).encode().hex().encode() + b"\r\n")
    if not line.readline(1024).startswith(b"OK "):
        raise ValueError("systemd refused the login")


def _worded(value: object) -> str:
    if isinstance(value, tuple):  # a number and its object, as of a job
        return str(value[0])
    return bytes(value).hex() if isinstance(value, list) else str(value)


def _path(unit: str) -> str:
    """The object of a unit: what is no letter or digit, or a digit at the beginning, is `_` and its code (sd_bus_path_encode(3))."""
    escaped = "".join(
        char
        if char.isascii() and (char.isalpha() or (char.isdigit() and at))
        else "".join(f"_{byte:02x}" for byte in char.encode())
        for at, char in enumerate(unit)
    )
    return f"{_MANAGER[0]}/unit/{escaped}"


def _answer(stream: "Stream", calls: Sequence[Call], first: int) -> Iterator[tuple[int, object]]:
    """The next message, if it answers one of `calls`: its place there and its first value, None for nothing.

    Signals come unasked on such a line, and answers to what only filled it up. `first` was sent before these calls.
    """
    head = stream.read(16)
    if len(head) < 16 or head[:1] != b"l":
        raise ValueError("systemd closed the connection")
    kind, (body, _, fields) = head[1], struct.unpack_from("<III", head, 4)
    rest = -(-fields // 8) * 8
    if rest + body > _MESSAGE_MAX:
        raise ValueError("the message is too long")
    data = head + stream.read(rest + body)
    if len(data) < 16 + rest + body:
        raise ValueError("systemd closed the connection in the middle of an answer")
    if kind not in (_ANSWER, _ERROR):
        # Of ten messages nine are signals.
        return
    listed = Reader(data, 12).fields()
    number, signature = listed.get(_REPLY_TO), listed.get(_SIGNATURE, "")
    if not isinstance(number, int) or not isinstance(signature, str):
        return
    place = number - first - 1
    if not 0 <= place < len(calls):
        return
    wanted, body_reader = calls[place].wanted, Reader(data[16 + rest :], 0)
    if kind == _ERROR:
        yield place, REFUSED
    elif wanted is not None:
        if signature != "a{sv}":
            raise ValueError(f"not properties: {signature!r}")
        yield place, body_reader.pairs(wanted)
    else:
        yield place, body_reader.value(signature) if signature else None


def _message(one: Call, number: int) -> bytes:
    body = b""
    for word in one.words:
        body = padded(body, 4) + text(word)
    if one.number is not None:
        body = padded(body, 4) + struct.pack("<i", one.number)
    if one.listed is not None:
        items = b""
        for word in one.listed:
            items = padded(items, 4) + text(word)
        body = padded(body, 4) + struct.pack("<I", len(items)) + items
    signature = (
        "s" * len(one.words) + ("i" if one.number is not None else "") + ("as" if one.listed is not None else "")
    )
    signature, body = one.body or (signature, body)
    fields = b""
    texts = ((_PATH, "o", one.path), (_INTERFACE, "s", one.interface), (_MEMBER, "s", one.member),
             (_DESTINATION, "s", "org.freedesktop.systemd1"))  # fmt: skip
    for code, kind, words in texts:
        fields = padded(fields, 8) + bytes((code, 1)) + kind.encode() + b"\0" + text(words)
    if signature:
        fields = (
            padded(fields, 8) + bytes((_SIGNATURE, 1)) + b"g\0" + bytes((len(signature),)) + signature.encode() + b"\0"
        )
    head = struct.pack("<cBBBIII", b"l", _CALL, 0, 1, len(body), number, len(fields))
    return padded(head + fields, 8) + body


class Bus(Protocol):
    """What an engine uses of this module; each function raises BusError."""

    def call(self, calls: Sequence[Call], /) -> list[object]:
        """What each call returns."""

    def show(self, units: Sequence[str], names: Sequence[str], /) -> dict[str, dict[str, str]]:
        """Properties of units."""

    def of_slices(self, units: Sequence[str], /) -> dict[str, dict[str, str]]:
        """FragmentPath and ControlGroup of slices."""

    def states(self, units: Sequence[str], /) -> dict[str, dict[str, str]]:
        """ActiveState, SubState and Job of units."""
