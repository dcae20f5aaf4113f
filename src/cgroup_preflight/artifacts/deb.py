"""Debian packages: our files go into data.tar, what follows from them into control.tar; all else stays."""

from typing import BinaryIO

from cgroup_preflight.artifacts import ar
from cgroup_preflight.artifacts.deb_control import is_conffile, new_conffiles, new_control, new_md5sums, package_name
from cgroup_preflight.artifacts.edit import Edit
from cgroup_preflight.artifacts.errors import corrupt, unsafe, unsupported
from cgroup_preflight.artifacts.model import KEEP_MAX, Kind, Limits, Splice
from cgroup_preflight.artifacts.splice import read_range
from cgroup_preflight.artifacts.survey import Survey
from cgroup_preflight.artifacts.tar_edit import with_end
from cgroup_preflight.artifacts.tar_format import TarPart
from cgroup_preflight.artifacts.tar_headers import new_member, padded, resized
from cgroup_preflight.artifacts.tar_walk import Ending, Entry, ending, entries
from cgroup_preflight.core.report import Remedy
from cgroup_preflight.host.files import Sink

#: deb(5): dpkg writes the first four today, and reads the others in old packages.
_CODECS = {"": "", ".gz": "gz", ".xz": "xz", ".zst": "zst", ".bz2": "bz2", ".lzma": "lzma"}
_LISTS = ("control", "md5sums", "conffiles")


class DebFormat:
    """A Debian binary package, format 2.0."""

    all_folders = True  # dpkg removes only folders that a package names.

    def __init__(self, file: BinaryIO, length: int, limits: Limits) -> None:
        self._file, self._limits = file, limits
        self._members = ar.read_members(file, length)
        self._check_order()
        self._control = self._part("control.tar")
        self._data = self._part("data.tar")
        self._entries: dict[str, Entry] = {}
        self._files: dict[str, bytes] = {}
        self._ending = Ending(marker=0, total=0)
        self._dotted = False
        self._read_control()

    @property
    def signatures(self) -> tuple[str, ...]:
        """Members that sign the others (debsigs, dpkg-sig)."""
        return tuple(member.name for member in self._members if member.name.startswith("_gpg"))

    @property
    def package(self) -> str:
        """The package's name."""
        return package_name(self._files["control"])

    def survey(self, survey: Survey) -> None:
        """Looks at every member of data.tar. Raises ArtifactError."""
        self._data.survey(survey)

    def write(self, sink: Sink, edit: Edit, survey: Survey, mtime: int) -> None:
        """Writes the package: the same members in the same order, two of them packed again as they were."""
        sink.write(ar.MAGIC)
        for member in self._members:
            at = sink.tell()
            sink.write(member.header)
            start = sink.tell()
            if member.name.startswith("control.tar"):
                self._control.write_spliced(sink, self._control_splices(edit, mtime))
            elif member.name.startswith("data.tar"):
                self._data.write(sink, edit, survey, mtime)
            else:
                sink.copy(self._file, member.start, member.size)
            size = sink.tell() - start
            sink.patch(at + ar.SIZE_AT, ar.size_field(size))
            if size % 2:
                sink.write(b"\n")

    def _check_order(self) -> None:
        # deb(5): names with an underscore may stand between, and anything after data.tar; dpkg ignores both.
        names = [member.name for member in self._members if not member.name.startswith("_")]
        parts = [name.partition(".tar")[0] for name in names]
        known = ["debian-binary", "control", "data"]
        if parts[:3] != known or set(parts[3:]) & set(known):
            raise corrupt(f"not a Debian package of format 2.0: its members are {', '.join(names) or 'none'}")
        first = self._members[0]
        version = b"".join(read_range(self._file, first.start, min(first.size, 64)))
        if not version.startswith(b"2."):
            remedy = Remedy(title="build it with a current dpkg-deb")
            raise unsupported(f"Debian package format {version[:20]!r}", remedy)

    def _part(self, name: str) -> TarPart:
        member = next(item for item in self._members if item.name.startswith(name))
        suffix = member.name.removeprefix(name)
        if suffix not in _CODECS:
            raise unsupported(f"{member.name}: compression {suffix!r}", Remedy(title="build it with dpkg-deb -Zxz"))
        return TarPart(self._file, member.start, member.size, _CODECS[suffix], self._limits)

    def _read_control(self) -> None:
        """Reads the lists that follow from the content. Raises ArtifactError."""
        stream = self._control.stream()
        for number, entry in enumerate(entries(stream)):
            path = entry.member.path
            if number == 0:
                self._dotted = entry.member.raw_name.startswith(".")
            if path in _LISTS:
                odd = path in self._entries or entry.member.kind is not Kind.FILE or not entry.resizable
                if odd or entry.size > 64 * KEEP_MAX:
                    raise unsafe(f"{path!r} in control.tar is odd: there twice, no file, or too large")
                self._entries[path] = entry
                self._files[path] = stream.read(entry.size)
                stream.skip(padded(entry.size) - len(self._files[path]))
            else:
                stream.skip(padded(entry.size))
        self._ending = ending(stream)
        if "control" not in self._files:
            raise corrupt("control.tar has no control file")

    def _control_splices(self, edit: Edit, mtime: int) -> tuple[Splice, ...]:
        """The lists in their places, each with the owner, mode and time it had."""
        fresh = {"control": new_control(self._files["control"], edit)}
        if "md5sums" in self._files:
            fresh["md5sums"] = new_md5sums(self._files["md5sums"], edit)
        tail = b""
        if "conffiles" in self._files:
            fresh["conffiles"] = new_conffiles(self._files["conffiles"], edit)
        elif any(is_conffile(new.path) for new in edit.added):
            tail = new_member("conffiles", new_conffiles(b"", edit), dotted=self._dotted, mtime=mtime)
        splices = []
        for name, data in fresh.items():
            entry = self._entries[name]
            if data != self._files[name]:
                new = resized(entry.block, len(data)) + data + b"\0" * (padded(len(data)) - len(data))
                splices.append(Splice(offset=entry.block_at, remove=entry.member.end - entry.block_at, data=new))
        splices.sort(key=lambda item: item.offset)
        grown = sum(len(item.data) - item.remove for item in splices) + len(tail)
        return (*splices, with_end(self._ending, tail, grown))
