"""The control files of a Debian package that follow from its content. Pure.

Sources: deb-md5sums(5), deb-conffiles(5), deb-substvars(5) (Installed-Size: each file rounded up to 1 KiB, 1 KiB for
everything else). `python-debian` reads such files, but writes no package, and is under the GPL.
"""

import hashlib
import re

from cgroup_preflight.artifacts.edit import Edit
from cgroup_preflight.artifacts.errors import corrupt

_INSTALLED = re.compile(rb"^(Installed-Size:[ \t]*)(\d{1,15})([ \t]*)$", re.MULTILINE | re.IGNORECASE)
_PACKAGE = re.compile(rb"^Package:[ \t]*([a-z0-9][a-z0-9+.-]+)[ \t]*$", re.MULTILINE | re.IGNORECASE)


def package_name(control: bytes) -> str:
    """The package's name. Raises ArtifactError if there is none."""
    match = _PACKAGE.search(control)
    if not match:
        raise corrupt("the control file names no package")
    return match[1].decode()


def new_control(control: bytes, edit: Edit) -> bytes:
    """The control file with its Installed-Size; one that has none is left alone."""
    grown = sum(_kibibytes(len(new.data)) for new in edit.added) + len(edit.folders)
    grown += sum(_kibibytes(len(new.data)) - _kibibytes(found.member.size) for found, new in edit.replaced)
    grown -= sum(_kibibytes(found.member.size) for found in edit.dropped)

    def resize(match: re.Match[bytes]) -> bytes:
        return b"%s%d%s" % (match[1], max(int(match[2]) + grown, 0), match[3])

    return _INSTALLED.sub(resize, control, count=1)


def new_md5sums(md5sums: bytes, edit: Edit) -> bytes:
    """The checksum list with our files; in order by path if it was, as debhelper writes it, else appended."""
    gone = {found.member.path for found in edit.dropped}
    files = (*(new for _, new in edit.replaced), *edit.added)
    fresh = {new.path: new.data for new in files if not is_conffile(new.path)}
    lines, kept = md5sums.splitlines(), []
    for line in lines:
        path = _path(line)
        if path in fresh:
            kept.append(_line(path, fresh.pop(path)))
        elif path not in gone:
            kept.append(line)
    ordered = lines == sorted(lines, key=lambda line: line[34:])
    kept += [_line(path, data) for path, data in fresh.items()]
    if ordered:
        kept.sort(key=lambda line: line[34:])
    return b"".join(line + b"\n" for line in kept)


def new_conffiles(conffiles: bytes, edit: Edit) -> bytes:
    """The list of configuration files with ours that go below etc/, and without those that went."""
    gone = {f"/{found.member.path}".encode() for found in edit.dropped}
    lines = [line for line in conffiles.splitlines() if line.strip() not in gone]
    known = {line.strip().removeprefix(b"remove-on-upgrade ") for line in lines}
    fresh = [f"/{new.path}".encode() for new in edit.added if is_conffile(new.path)]
    lines += [line for line in fresh if line not in known]
    return b"".join(line + b"\n" for line in lines)


def is_conffile(path: str) -> bool:
    """Whether Debian's policy (10.7) wants the file to be a conffile."""
    return path.startswith("etc/")


def _kibibytes(size: int) -> int:
    return -(-size // 1024)


def _path(line: bytes) -> str:
    return line[34:].decode("utf-8", "surrogateescape").removeprefix("./")


def _line(path: str, data: bytes) -> bytes:
    # MD5 is what dpkg compares with; nothing here relies on it for safety.
    return f"{hashlib.md5(data, usedforsecurity=False).hexdigest()}  {path}".encode()
