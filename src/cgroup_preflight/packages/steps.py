"""Installs, upgrades and removes packages on this machine, a guest, with dpkg; a tar archive is unpacked to /.

Each step has a time limit. Its output goes to a file: a daemon that a script starts keeps that open, and no pipe of ours.
"""

import os
import re
from collections.abc import Callable, Iterable, Sequence

from cgroup_preflight.core.printable import printable
from cgroup_preflight.core.reading import Missing
from cgroup_preflight.core.records import TYPE_CHECKING, dataclass
from cgroup_preflight.packages.package_file import PackageFile

if TYPE_CHECKING:
    from cgroup_preflight.host.command import CommandRunner
    from cgroup_preflight.host.door import Clock

#: Says what is done now.
Say = Callable[[str], None]
_LINES, _WIDTH, _BYTES = 30, 300, 64 << 10
_DPKG = ("env", "DEBIAN_FRONTEND=noninteractive", "dpkg", "--force-confdef", "--force-confold", "--force-unsafe-io")
#: $0 is the file for the output.
_TO_FILE = 'exec "$@" > "$0" 2>&1 < /dev/null'
#: Arguments: archive, folder in it, list of files. The guest has no xz; its Python has.
_UNPACK = r"""
set -eu
stage=$(mktemp -d -p /var/tmp)
python3 -I -c '
import bz2, gzip, lzma, shutil, sys
for opener in (gzip.open, lzma.open, bz2.open, open):
    try:
        with opener(sys.argv[1], "rb") as file:
            file.read(1)
            file.seek(0)
            shutil.copyfileobj(file, sys.stdout.buffer)
        break
    except (OSError, lzma.LZMAError, EOFError):
        continue
' "$1" | tar -C "$stage" -xf - --no-same-owner
cd "$stage/$2"
find . ! -type d -printf '/%P\n' > "$3"
tar -cf - . | tar -C / -xpf - --keep-directory-symlink --no-overwrite-dir --no-same-owner
cd /
rm -rf "$stage"
if grep -q '/sysusers\.d/' "$3"; then systemd-sysusers; fi
if grep -q '/tmpfiles\.d/' "$3"; then systemd-tmpfiles --create; fi
systemctl daemon-reload
"""
#: Arguments: list of files, then units.
_REMOVE = r"""
set -eu
list=$1
shift
[ $# -eq 0 ] || systemctl disable --now "$@"
tr '\n' '\0' < "$list" | xargs -0 rm -f --
systemctl daemon-reload
"""
#: An archive has no scripts: what runs goes on with the new files only after a restart.
_RESTART = ("systemctl", "try-restart", "--")


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """One step: its exit status (None: it did not end in time), its last lines of output, and the seconds it took."""

    what: str
    status: int | None
    output: tuple[str, ...]
    seconds: float

    @property
    def ok(self) -> bool:
        """Whether it succeeded."""
        return self.status == 0

    @property
    def culprit(self) -> str:
        """The package that dpkg was at, by its own words: the last one that it named; empty where it named none."""
        matches = (_AT.match(line) for line in reversed(self.output))
        return next((match[1] for match in matches if match), "")


#: How dpkg says which package it is at.
_AT = re.compile(
    r"(?:Setting up|Unpacking|Removing|Purging configuration files for|dpkg: error processing package) (\S+) "
)


class Steps:
    """The steps of one machine; `folder` is for output and lists, `timeout` in seconds for each step."""

    def __init__(self, programs: "CommandRunner", clock: "Clock", folder: str, timeout: float) -> None:
        self._programs = programs
        self._clock = clock
        self._folder = folder
        self._timeout = timeout

    def install(self, files: Sequence[PackageFile]) -> Done:
        """Installs all packages together, over older ones if there are any."""
        calls: list[tuple[str, ...]] = []
        if debs := [item.real for item in files if item.kind == "deb"]:
            calls.append((*_DPKG, "--install", *debs))
        calls += [
            ("sh", "-euc", _UNPACK, "unpack", item.real, item.prefix or ".", self._list(item))
            for item in files
            if item.kind == "tar"
        ]
        return self._all("installation", calls)

    def upgrade(self, files: Sequence[PackageFile]) -> Done:
        """As `install`; the services of tar archives are started again."""
        done = self.install(files)
        units = [unit for item in files if item.kind == "tar" for unit in item.services if "@." not in unit]
        return done if not done.ok or not units else self._all("upgrade", [(*_RESTART, *units)], done)

    def remove(self, files: Sequence[PackageFile]) -> Done:
        """Removes the packages; their configuration stays."""
        calls: list[tuple[str, ...]] = []
        if names := [item.name for item in files if item.kind == "deb"]:
            calls.append((*_DPKG, "--remove", *names))
        calls += [
            ("sh", "-euc", _REMOVE, "remove", self._list(item), *(unit for unit in item.services if "@." not in unit))
            for item in files
            if item.kind == "tar"
        ]
        return self._all("removal", calls)

    def purge(self, files: Sequence[PackageFile]) -> Done:
        """Removes the configuration of packages, too."""
        names = [item.name for item in files if item.kind == "deb"]
        return self._all("purge", [(*_DPKG, "--purge", *names)] if names else [])

    def shipped(self, files: Iterable[PackageFile]) -> frozenset[str]:
        """The paths of all installed files of packages, without folders."""
        found: set[str] = set()
        for item in files:
            if item.kind == "deb":
                answer = self._programs.run(("dpkg-query", "--listfiles", item.name), timeout=self._timeout)
                lines = [] if isinstance(answer, Missing) else answer.value.stdout.splitlines()
            else:
                lines = _read(self._list(item)).decode("utf-8", "replace").splitlines()
            found.update(line for line in lines if line.startswith("/") and not _is_folder(line))
        return frozenset(found)

    def _list(self, item: PackageFile) -> str:
        return os.path.join(self._folder, f"{item.sha256}.files")

    def _all(self, what: str, calls: Iterable[tuple[str, ...]], before: Done | None = None) -> Done:
        """Runs commands until one fails."""
        done = before or Done(what=what, status=0, output=(), seconds=0.0)
        for argv in calls:
            if not done.ok:
                break
            one = self._one(argv)
            done = Done(
                what=what,
                status=one.status,
                output=(*done.output, *one.output)[-_LINES:],
                seconds=done.seconds + one.seconds,
            )
        return done

    def _one(self, argv: tuple[str, ...]) -> Done:
        log, began = os.path.join(self._folder, "output"), self._clock.monotonic()
        answer = self._programs.run(("sh", "-c", _TO_FILE, log, *argv), timeout=self._timeout)
        status = None if isinstance(answer, Missing) else answer.value.returncode
        return Done(what="", status=status, output=last_lines(log), seconds=self._clock.monotonic() - began)


def last_lines(path: str) -> tuple[str, ...]:
    """The last lines of a file, bounded and without control characters."""
    lines = _read(path).decode("utf-8", "replace").replace("\r", "\n").splitlines()
    return tuple(printable(line)[:_WIDTH] for line in lines if line.strip())[-_LINES:]


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(size - _BYTES, 0) if path.endswith("output") else 0)
            return file.read()
    except OSError:
        return b""


def _is_folder(path: str) -> bool:
    return os.path.isdir(path) and not os.path.islink(path)
