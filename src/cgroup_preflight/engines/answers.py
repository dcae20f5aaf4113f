"""What the programs of systemd answer, and the files that they are given."""

from collections.abc import Iterable

from cgroup_preflight.core.errors import HostError
from cgroup_preflight.core.printable import printable
from cgroup_preflight.core.reading import Missing, Reading
from cgroup_preflight.core.records import TYPE_CHECKING
from cgroup_preflight.core.report import Remedy
from cgroup_preflight.host.command import Completed
from cgroup_preflight.plan.model import UnitFile

if TYPE_CHECKING:
    from cgroup_preflight.host.door import Files


def answered(argv: tuple[str, ...], answer: Reading[Completed]) -> Completed:
    """The finished command. Raises HostError where it did not finish."""
    if isinstance(answer, Missing):
        raise HostError(
            f"no answer: {answer}", where=" ".join(argv[:4]),
            remedy=Remedy(title="look at the state of systemd", commands=(("systemctl", "status"),)),
        )  # fmt: skip
    return answer.value


def first_line(text: str) -> str:
    """The first line that is not empty, without control characters, cut to a readable length."""
    for line in text.splitlines():
        if line.strip():
            return printable(line.strip())[:300]
    return ""


def error_words(done: Completed) -> str:
    """Why a command failed, empty for one that did not."""
    return (first_line(done.stderr) or f"exit status {done.returncode}") if done.returncode else ""


def tar_of(files: Iterable[UnitFile]) -> bytes:
    """The files as a tar archive, which a program of sudo unpacks."""
    import io
    import tarfile  # only sudo needs it

    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for file in files:
            data = file.content.encode()
            member = tarfile.TarInfo(file.path)
            member.size, member.mode = len(data), 0o644
            archive.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


def write_units(to: "Files", folder: str, files: Iterable[UnitFile]) -> None:
    """Writes unit files below a folder of a machine. Raises HostError."""
    try:
        to.write_all(folder, {file.path: file.content.encode() for file in files})
    except HostError as error:
        raise cannot_write(error.where, error.message) from None


def cannot_write(folder: str, reason: str) -> HostError:
    """Why unit files could not be written."""
    return HostError(
        f"cannot write unit files: {reason}", where=folder,
        remedy=Remedy(title="run as root, or where this folder is writable"),
    )  # fmt: skip
