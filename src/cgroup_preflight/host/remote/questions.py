"""Questions to a machine, which can be sent many at a time, and the scripts and jobs that answer them.

Every kind has a script for the shell; those that SFTP can answer also have a job.
"""

import enum
import errno
import os
import stat

from cgroup_preflight.core.reading import Known, Missing, Reading, Why, missing
from cgroup_preflight.core.records import TYPE_CHECKING, dataclass
from cgroup_preflight.host.command import Completed
from cgroup_preflight.host.door import Status
from cgroup_preflight.host.fs import PAGE_SIZES, TEXT_MAX
from cgroup_preflight.host.remote.shell import Output, Script, octal, quoted

if TYPE_CHECKING:
    from cgroup_preflight.host.remote.sftp import Job

#: The reasons of the system by their words, which programs print with LC_ALL=C.
_REASONS = {os.strerror(number): number for number in sorted(errno.errorcode, reverse=True)}
_KILL_SECONDS = 2
_PROC = "/proc"
#: Names in one folder, or folders below one, at most.
NAMES_MAX = 100_000


class Kind(enum.StrEnum):
    """What is asked about a path, or of the machine."""

    DATA = "data"
    TAIL = "tail"
    LINK = "link"
    STATUS = "status"
    NAMES = "names"
    FOLDERS = "folders"
    TREE = "tree"
    READ_ONLY = "read-only"
    NUMBERS = "numbers"
    WRITABLE = "writable"
    READABLE = "readable"
    REAL = "real"
    ATTRIBUTE = "attribute"
    MACHINE = "machine"
    PAGE_SIZE = "page size"
    COMMAND = "command"


#: Those that find(1) answers.
_LISTS = (Kind.NAMES, Kind.FOLDERS, Kind.TREE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One question. `words` are an argv, or the name of an attribute; `start` and `most` are of TAIL, in bytes."""

    kind: Kind
    path: str = ""
    words: tuple[str, ...] = ()
    start: int = 0
    most: int = TEXT_MAX + 1
    seconds: float = 20.0
    stdin: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class Numbers:
    """What only stat(1) says: the device and number of a file, and the device that a node stands for (0 for none)."""

    device: int
    number: int
    stands_for: str


def script_of(question: Question) -> Script:
    """The script whose output `reading_of` reads. Raises ValueError for a path or word that no machine can have."""
    path = quoted((question.path,))
    match question.kind:
        case Kind.DATA | Kind.TAIL:
            text = _content(path, question)
        case Kind.LINK:
            text = f"readlink -v -- {path}"
        case Kind.STATUS:
            text = f"stat -L -c '%s %f %u %g %Y' -- {path}"
        case Kind.NUMBERS:
            text = f"stat -L -c '%d %i %f %t %T' -- {path}"
        case Kind.NAMES | Kind.FOLDERS:
            # The names of all processes are asked often: without a program, and not a hundred at a time as over SFTP.
            if question.path == _PROC:
                return Script(text=f"printf '%s\\0' {_PROC}/*")
            kind = " -type d" if question.kind is Kind.FOLDERS else ""
            text = f"find {quoted((question.path.rstrip('/') + '/.',))} ! -name . -prune{kind} -print0"
        case Kind.TREE:
            text = f"find {path} -type d -printf '%i %P\\0'"
        case Kind.READ_ONLY:
            text = f"stat -L -- {path} >/dev/null && findmnt -n -o OPTIONS -T {path}"
        case Kind.WRITABLE:
            text = f"[ -w {path} ]"
        case Kind.READABLE:
            text = f"[ -r {path} ]"
        case Kind.REAL:
            text = f"readlink -f -- {path}"
        case Kind.ATTRIBUTE:
            text = f"getfattr -n {quoted(question.words)} --only-values --absolute-names -- {path}"
        case Kind.MACHINE:
            text = "uname -m"
        case Kind.PAGE_SIZE:
            text = "getconf PAGE_SIZE"
        case Kind.COMMAND:
            feed = f"printf {quoted((octal(question.stdin),))} | " if question.stdin else ""
            text = f"{feed}t {max(round(question.seconds), 1)} {quoted(question.words)}"
    return Script(text=text, seconds=question.seconds + _KILL_SECONDS, most=max(question.most, TEXT_MAX + 1))


def _content(path: str, question: Question) -> str:
    """Not the content of a FIFO, which would block, nor of a device."""
    cut = f"tail -c +{question.start + 1} -- {path} | " if question.kind is Kind.TAIL else ""
    source = "" if cut else f" -- {path}"
    return (
        f"if [ -e {path} ] && [ ! -f {path} ] && [ ! -d {path} ]; then echo 'not a file' >&2; false; "
        f"else {cut}head -c {question.most}{source}; fi"
    )


def job_of(question: Question) -> "Job[Reading[object]] | None":
    """The job for SFTP; None where only the shell can answer."""
    from cgroup_preflight.host.remote import sftp_jobs as jobs

    match question.kind:
        case Kind.DATA | Kind.TAIL:
            return jobs.read(question.path, question.most, question.start)
        case Kind.LINK:
            return jobs.link(question.path)
        case Kind.STATUS:
            return jobs.status(question.path)
        case Kind.NAMES | Kind.FOLDERS if question.path != _PROC:
            return jobs.names(question.path, folders=question.kind is Kind.FOLDERS)
        case Kind.READ_ONLY:
            return jobs.read_only(question.path)
        case _:
            return None


def source_of(question: Question) -> str:
    """Where the answer comes from, as a reading of this machine says it."""
    match question.kind:
        case Kind.COMMAND:
            return " ".join(question.words[:3])
        case Kind.READ_ONLY:
            return f"statvfs {question.path}"
        case Kind.ATTRIBUTE:
            return f"{question.path} {question.words[0]}"
        case Kind.MACHINE:
            return "uname"
        case Kind.PAGE_SIZE:
            return "page size"
        case _:
            return question.path


def reading_of(question: Question, output: Output) -> Reading[object]:
    """What the output of the question's script says; an odd one is malformed."""
    source = source_of(question)
    if question.kind is Kind.COMMAND:
        return _completed(question, output, source)
    if question.kind in (Kind.WRITABLE, Kind.READABLE):
        return Known(value=output.status == 0, source=source)
    went = question.kind in _LISTS and output.status == 1 and bool(output.out) and _only_went(output.err)
    if (output.status != 0 and not went) or (question.kind is Kind.TAIL and output.err):
        return _reason(source, output)
    try:
        return Known(value=_value(question, output.out), source=source)
    except ValueError as error:
        return Missing(source=source, why=Why.MALFORMED, detail=str(error)[:200])


def _value(question: Question, out: bytes) -> object:
    """Raises ValueError for what no such program prints."""
    match question.kind:
        case Kind.DATA | Kind.TAIL | Kind.ATTRIBUTE:
            return out
        case Kind.LINK | Kind.REAL:
            return os.fsdecode(out.removesuffix(b"\n"))
        case Kind.STATUS:
            size, mode, uid, gid, changed = out.split()
            return Status(size=int(size), mode=int(mode, 16), uid=int(uid), gid=int(gid), time=float(changed))
        case Kind.NUMBERS:
            device, number, bits, major, minor = out.split()
            node = f"{int(major, 16)}:{int(minor, 16)}" if stat.S_ISBLK(int(bits, 16)) else ""
            return Numbers(device=int(device), number=int(number), stands_for=node)
        case Kind.NAMES | Kind.FOLDERS:
            return tuple(sorted(os.fsdecode(each.rpartition(b"/")[2]) for each in _entries(out)))
        case Kind.TREE:
            return tuple(_folder(each) for each in _entries(out))
        case Kind.READ_ONLY:
            return "ro" in out.decode("ascii").strip().split(",")
        case Kind.MACHINE:
            return out.decode("ascii").strip()[:64]
        case _:
            page = int(out)
            if page not in PAGE_SIZES:
                raise ValueError(f"a page of {page} bytes")
            return page


def _entries(out: bytes) -> list[bytes]:
    """What find(1) prints, with a NUL after each. Raises ValueError for more than a folder of a host has."""
    if out.count(b"\0") > NAMES_MAX:
        raise ValueError(f"more than {NAMES_MAX} names")
    return [each for each in out.split(b"\0") if each]


def _only_went(complaints: str) -> bool:
    """Whether find(1) complains only about what went while it looked: cgroups come and go all the time."""
    ends = tuple(f": {os.strerror(number)}" for number in (errno.ENOENT, errno.ENODEV))
    lines = complaints.splitlines()
    return bool(lines) and all(line.endswith(ends) for line in lines)


def _folder(entry: bytes) -> tuple[str, int]:
    """A folder's path below the top, with a slash before it, and its inode number."""
    number, separator, path = entry.partition(b" ")
    if not separator:
        raise ValueError("not a folder")
    return (f"/{os.fsdecode(path)}" if path else "", int(number))


def _completed(question: Question, output: Output, source: str) -> Reading[Completed]:
    if output.status in (124, 137):
        return Missing(source=source, why=Why.FAILED, detail=f"no answer within {question.seconds:g} s")
    if output.status in (126, 127) and (output.err.startswith("timeout: ") or "not found" in output.err):
        number = errno.ENOENT if output.status == 127 else errno.EACCES
        return missing(source, OSError(number, os.strerror(number)))
    return Known(
        value=Completed(
            argv=question.words, returncode=output.status, stdout=output.out.decode("utf-8", "replace"),
            stderr=output.err,
        ),
        source=source,
    )  # fmt: skip


def _reason(source: str, output: Output) -> Missing:
    """Why a script failed, by the words of the system at the end of its last complaint."""
    lines = output.err.strip().splitlines()
    words = lines[-1] if lines else ""
    if words == "not a file":
        return Missing(source=source, why=Why.MALFORMED, detail=words)
    number = _REASONS.get(words.rpartition(": ")[2])
    if number is not None and output.status != 127:
        return missing(source, OSError(number, words))
    if "No such attribute" in words:
        return Missing(source=source, why=Why.ABSENT)
    why = Why.UNSUPPORTED if output.status == 127 else Why.FAILED
    return Missing(source=source, why=why, detail=words[:200] or f"exit status {output.status}")
