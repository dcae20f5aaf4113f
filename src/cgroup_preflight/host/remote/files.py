"""The files of a machine at the other end, as `host.door.Files`."""

import errno
import os
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import BinaryIO, TypeVar, cast

from cgroup_preflight.core.errors import HostError
from cgroup_preflight.core.printable import printable
from cgroup_preflight.core.reading import Known, Missing, Reading, Why, parsed, value_or
from cgroup_preflight.core.report import Remedy
from cgroup_preflight.host.door import Status
from cgroup_preflight.host.fs import text_of
from cgroup_preflight.host.local import MEMORY_OPTIONS
from cgroup_preflight.host.remote import scripts
from cgroup_preflight.host.remote import sftp_jobs as jobs
from cgroup_preflight.host.remote.asking import Asker
from cgroup_preflight.host.remote.questions import Kind, Numbers, Question
from cgroup_preflight.host.remote.readings import AskedReadings, device_number, file_system_of, whole_answer
from cgroup_preflight.host.remote.sftp import Job
from cgroup_preflight.host.remote.shell import Output, Script, octal, quoted

T = TypeVar("T")
#: What is read of a file that stays open, as on this machine.
_PAGE = 1 << 16
#: Bytes that one line of a script carries.
_PIECE = scripts.PIECE
#: Files that stay open there at most: a server may have 1024 descriptors.
_HELD_MAX = 800
_TAILS_MAX = 100
#: Below these, a path is another file later.
_MOVING = ("/proc/", "/sys/", "/dev/")
_WRITE_SECONDS = 60.0
_ABSENT = os.strerror(errno.ENOENT).lower()


class RemoteFiles(AskedReadings):
    """As `Files`. A reading says why the machine could not be asked; a write raises HostError."""

    def __init__(self, asker: Asker) -> None:
        self._asker = asker
        self._known: dict[Question, Reading[object]] = {}
        #: The handles of the server by our numbers, None where the file is opened each time; the sessions that they are of;
        #: the numbers of the others by path; and what was read through handles and not used yet.
        self._held: dict[int, bytes | None] = {}
        self._sessions: dict[int, int] = {}
        self._numbers: dict[str, int] = {}
        #: The numbers of files that grow, by path; 0 for one that was read once.
        self._tails: dict[str, int] = {}
        self._again: dict[int, Reading[bytes]] = {}
        self._last = 0

    def _ask(self, kind: Kind, path: str = "", name: str = "") -> Reading[object]:
        question = Question(kind=kind, path=path, words=(name,) if name else ())
        known = self._known.pop(question, None)
        return known if known is not None else self._asker.ask([question])[0]

    def prefetch(
        self, paths: Iterable[str], *, folders: Iterable[str] = (), statuses: Iterable[str] = (),
        names: Iterable[str] = (), links: Iterable[str] = (),
    ) -> None:  # fmt: skip
        """As `MachineFs.prefetch`."""
        wanted = tuple(dict.fromkeys(paths))
        held = {number: path for path in wanted if (number := self._numbers.get(path)) is not None}
        if held:
            found = self._asker.jobs([self._job_again(one, path) for one, path in held.items()],
                                     lambda: [_lost(path) for path in held.values()])  # fmt: skip
            self._again.update(zip(held, found, strict=True))
        questions = [Question(kind=Kind.DATA, path=path) for path in wanted if path not in self._numbers]
        questions += [Question(kind=Kind.FOLDERS, path=path) for path in dict.fromkeys(folders)]
        questions += [Question(kind=Kind.STATUS, path=path) for path in dict.fromkeys(statuses)]
        questions += [Question(kind=Kind.NAMES, path=path) for path in dict.fromkeys(names)]
        questions += [Question(kind=Kind.LINK, path=path) for path in dict.fromkeys(links)]
        self._known.update(zip(questions, self._asker.ask(questions), strict=True) if questions else ())

    def forget(self) -> None:
        """As `MachineFs.forget`."""
        self._known.clear()
        self._again.clear()

    def many(self, paths: Iterable[str]) -> Mapping[str, Reading[bytes]]:
        """As `MachineFs.many`."""
        questions = {path: Question(kind=Kind.DATA, path=path) for path in paths}
        known = {path: self._known.pop(one) for path, one in questions.items() if one in self._known}
        wanted = [path for path in questions if path not in known]
        known.update(zip(wanted, self._asker.ask([questions[path] for path in wanted]), strict=True))
        return {path: whole_answer(path, known[path]) for path in questions}

    def status(self, path: str) -> Reading[Status]:
        """As `Files.status`."""
        return cast("Reading[Status]", self._ask(Kind.STATUS, path))

    def block_device(self, path: str) -> Reading[str]:
        """As `MachineFs.block_device`."""
        found = cast("Reading[Numbers]", self._ask(Kind.NUMBERS, path))
        return parsed(found, lambda numbers: numbers.stands_for or device_number(numbers.device))

    def identity(self, path: str) -> Reading[tuple[int, int]]:
        """As `MachineFs.identity`."""
        found = cast("Reading[Numbers]", self._ask(Kind.NUMBERS, path))
        return parsed(found, lambda numbers: (numbers.device, numbers.number))

    def readable(self, path: str) -> bool:
        """As `Files.readable`."""
        return bool(value_or(self._ask(Kind.READABLE, path), default=False))

    def real(self, path: str) -> str:
        """As `Files.real`."""
        return cast("str", value_or(self._ask(Kind.REAL, path), path))

    def tail(self, path: str, offset: int, most: int) -> Reading[bytes]:
        """As `Files.tail`."""
        known = cast("Reading[bytes] | None", self._known.pop(Question(kind=Kind.DATA, path=path), None))
        if known is not None:
            return parsed(known, lambda data: data[offset : offset + most])
        if (found := self._grown(path, offset, most)) is not None:
            return found
        question = Question(kind=Kind.TAIL, path=path, start=offset, most=most)
        return cast("Reading[bytes]", self._asker.ask([question])[0])

    def _grown(self, path: str, offset: int, most: int) -> Reading[bytes] | None:
        """As `tail`, of a file that stays open from the second call on; None where it does not."""
        if path.startswith(_MOVING) or (path not in self._tails and len(self._tails) >= _TAILS_MAX):
            return None
        if (number := self._tails.get(path)) is None:
            # From a file that is asked once, an open one would gain nothing.
            self._tails[path] = 0
            return None
        if not number and (number := self._open_tail(path)) is None:
            return None
        if not self._held[number] or self._sessions[number] != self._asker.session:
            return None
        job = jobs.part(self._held[number] or b"", path, offset, most)
        try:
            return self._asker.job(job, lambda: _lost(path))
        except HostError as error:
            return Missing(source=path, why=Why.FAILED, detail=error.message)

    def _open_tail(self, path: str) -> int | None:
        found = self._asker.ask([Question(kind=Kind.STATUS, path=path)])[0]
        if isinstance(found, Missing) or not stat.S_ISREG(cast("Status", found.value).mode):
            return None
        ((_, handle),) = self._opened([path])
        if isinstance(handle, Missing):
            return None
        self._tails[path] = number = self._kept(path, handle.value)
        # It is no file whose whole content is read again.
        self._numbers.pop(path, None)
        return number

    def hold(self, path: str, device: str) -> Reading[int]:
        """As `MachineFs.hold`; without an SFTP server, the file is opened again each time."""
        return self.hold_all((path,), device)[path]

    def hold_all(self, paths: Iterable[str], device: str) -> Mapping[str, Reading[int]]:
        """As `MachineFs.hold_all`."""
        wanted = tuple(dict.fromkeys(paths))
        devices = map(file_system_of, self._asker.ask([Question(kind=Kind.NUMBERS, path=path) for path in wanted]))
        found: dict[str, Reading[int]] = {}
        right = list[str]()
        for path, reading in zip(wanted, devices, strict=True):
            if isinstance(reading, Missing):
                found[path] = reading
            elif reading.value != device:
                found[path] = Missing(source=path, why=Why.MALFORMED, detail="another file is mounted over it")
            else:
                right.append(path)
        found |= {path: parsed(handle, partial(self._kept, path)) for path, handle in self._opened(right)}
        return {path: found[path] for path in wanted}

    def _opened(self, paths: Sequence[str]) -> Iterator[tuple[str, Reading[bytes]]]:
        """The handles of files that stay open; empty ones where there are none, or too many."""
        nothing: list[Reading[bytes]] = [Known(value=b"", source=path) for path in paths]
        some = paths[: max(_HELD_MAX - len(self._numbers), 0)]
        try:
            handles = self._asker.jobs([jobs.opened(path) for path in some], lambda: nothing[: len(some)])
        except HostError as error:
            return ((path, Missing(source=path, why=Why.FAILED, detail=error.message)) for path in paths)
        return zip(paths, [*handles, *nothing[len(some) :]], strict=True)

    def _kept(self, path: str, handle: bytes) -> int:
        self._last += 1
        self._held[self._last], self._sessions[self._last] = handle or None, self._asker.session
        if handle:
            self._numbers[path] = self._last
        return self._last

    def reread(self, handle: int, path: str) -> Reading[str]:
        """As `MachineFs.reread`."""
        held = self._held[handle]
        if held is None:
            return self.read(path)
        if (known := self._again.pop(handle, None)) is not None:
            return parsed(known, text_of)
        try:
            found = self._asker.job(self._job_again(handle, path), lambda: _lost(path))
        except HostError as error:
            return Missing(source=path, why=Why.FAILED, detail=error.message)
        return parsed(found, text_of)

    def release(self, handle: int) -> None:
        """As `MachineFs.release`."""
        held, session = self._held.pop(handle), self._sessions.pop(handle)
        self._numbers = {path: number for path, number in self._numbers.items() if number != handle}
        if held is not None and not self._asker.lost:
            with suppress(HostError):
                self._asker.job(self._job_close(held, session), lambda: None)

    def _job_again(self, number: int, path: str) -> "Job[Reading[bytes]]":
        """Reads an open file. A handle of an earlier session, which an interruption ended, would be another file now."""
        if self._sessions[number] != self._asker.session:
            return _lost(path)
        return (yield from jobs.again(self._held[number] or b"", path, _PAGE))

    def _job_close(self, handle: bytes, session: int) -> "Job[None]":
        if session == self._asker.session:
            yield from jobs.closed(handle)

    def write(self, path: str, data: bytes, mode: int = 0o644) -> None:
        """As `Files.write`."""
        temporary = f"{os.path.dirname(path)}/.cgroup-preflight-{os.urandom(8).hex()}"
        job = jobs.write(path, data, mode, temporary)
        _require(path, self._asker.job(job, lambda: self._write_by_shell(path, data, mode, temporary)))

    def upload(self, source: BinaryIO, path: str, mode: int) -> None:
        """As `Files.upload`."""
        job = jobs.upload(source, path, mode)
        _require(path, self._asker.job(job, lambda: self._upload_by_shell(source, path, mode)))

    def write_attribute(self, path: str, text: str) -> None:
        """As `Files.write_attribute`."""
        there = quoted((path,))
        # dd would make a file that does not exist.
        script = (
            f"if [ -e {there} ]; then printf {quoted((octal(text.encode()),))} | "
            f"dd of={there} conv=notrunc bs=65536 status=none; else echo {quoted((_ABSENT,))} >&2; false; fi"
        )
        _require(path, self._asker.job(jobs.write_attribute(path, text.encode()), lambda: self._by_shell(script)))

    def make_folder(self, path: str, mode: int = 0o755) -> None:
        """As `Files.make_folder`; in one round trip of the shell."""
        _require(path, self._by_shell(f"mkdir -p -m {mode:o} -- {quoted((path,))}"))

    def private_folder(self, prefix: str) -> str:
        """As `Files.private_folder`."""
        output = self._asker.scripts([scripts.private_folder(prefix)])[0]
        _require(prefix, _failure(output))
        path = os.fsdecode(output.out.removesuffix(b"\n"))
        if not path.startswith("/") or not path.rpartition("/")[2].startswith(prefix) or "\n" in path:
            raise _cannot(prefix, "mktemp answers what is no path")
        return path

    def remove(self, paths: Iterable[str]) -> None:
        """As `Files.remove`."""
        words = tuple(paths)
        if words:
            _require(words[0], _first_failure(self._asker.scripts([scripts.remove(words)])))

    def remove_private(self, prefix: str) -> None:
        """As `Files.remove_private`."""
        self._asker.scripts([scripts.remove_private(prefix)])

    def fifo(self, path: str) -> "RemoteFifo":
        """As `Files.fifo`."""
        _require(path, _first_failure(self._asker.scripts([scripts.fifo(path)])))
        return RemoteFifo(self._asker, path)

    def write_all(self, folder: str, contents: Mapping[str, bytes]) -> None:
        """As `Files.write_all`, in one round trip."""
        outputs = self._asker.scripts(tuple(scripts.write_all(folder, contents, os.urandom(8).hex())))
        # The time of a folder that belongs to somebody else stays.
        _require(folder, _failure(outputs[0]))

    def sync(self) -> None:
        """As `Files.sync`."""
        self._by_shell("sync")

    def touch(self, folder: str) -> None:
        """As `Files.touch`."""
        _require(folder, self._by_shell(f"touch -c -- {quoted((folder,))}"))

    def mount_memory(self, folder: str) -> None:
        """As `Files.mount_memory`."""
        tries = (f"mount -t tmpfs -o {options} tmpfs {quoted((folder,))}" for options in MEMORY_OPTIONS)
        _require(folder, self._by_shell(" || ".join(tries)))

    def unmount(self, folder: str) -> None:
        """As `Files.unmount`."""
        _require(folder, self._by_shell(f"umount -l {quoted((folder,))}"))

    def free(self, path: str, start: int, end: int) -> None:
        """As `Files.free`."""
        self._asker.scripts([Script(text=f"fallocate -p -o {start} -l {end - start} -- {quoted((path,))}")])

    def _by_shell(self, *texts: str) -> str:
        """Runs scripts one after another; why the first one failed that did, else empty."""
        return _first_failure(self._asker.scripts([Script(text=text, seconds=_WRITE_SECONDS) for text in texts]))

    def _write_by_shell(self, path: str, data: bytes, mode: int, temporary: str) -> str:
        there = quoted((temporary,))
        pieces = [data[at : at + _PIECE] for at in range(0, len(data), _PIECE)]
        return self._by_shell(
            f"(umask 077; set -C; : > {there}) && chmod {mode:o} -- {there}",
            *(f"printf {quoted((octal(piece),))} >> {there}" for piece in pieces),
            f"[ $(wc -c < {there}) -eq {len(data)} ] && sync -- {there} && mv -f -T -- {there} {quoted((path,))} "
            f"|| {{ rm -f -- {there}; false; }}",
        )

    def _upload_by_shell(self, source: BinaryIO, path: str, mode: int) -> str:
        there, reason, done = quoted((path,)), "", 0
        reason = self._by_shell(f"(umask 077; set -C; : > {there}) && chmod {mode:o} -- {there}")
        while not reason and (piece := source.read(_PIECE)):
            done += len(piece)
            reason = self._by_shell(f"printf {quoted((octal(piece),))} >> {there}")
        return reason or self._by_shell(f"[ $(wc -c < {there}) -eq {done} ]")


class RemoteFifo:
    """As `Fifo`: a line is written by a script that opens it for reading, too, and so waits for nobody."""

    def __init__(self, asker: Asker, path: str) -> None:
        self._asker, self._path = asker, path

    def write(self, line: str) -> None:
        """As `Fifo.write`."""
        _require(self._path, _first_failure(self._asker.scripts([scripts.fed(self._path, line)])))

    def close(self) -> None:
        """As `Fifo.close`: nothing is open between two lines."""


def _first_failure(outputs: Iterable[Output]) -> str:
    """Why the first script failed that did, else empty."""
    return next((reason for output in outputs if (reason := _failure(output))), "")


def _lost(path: str) -> Reading[bytes]:
    return Missing(source=path, why=Why.FAILED, detail="the file is not open any more")


def _failure(output: Output) -> str:
    """Why a script failed, empty where it did not."""
    if output.status == 0:
        return ""
    lines = output.err.strip().splitlines()
    return printable(lines[-1].rpartition(": ")[2])[:200] if lines else f"exit status {output.status}"


def _require(path: str, reason: str) -> None:
    if reason:
        raise _cannot(path, reason)


def _cannot(path: str, reason: str) -> HostError:
    return HostError(
        f"cannot write: {reason}", where=path, remedy=Remedy(title="free space, or make the place writable")
    )
