"""A program for the namespace of a build: writes the root of an archive that nobody here made, and says what is in it.

    python3 -m cgroup_preflight.guest.foreign_unpack ARCHIVE ROOT RESULTS < FILES

`FILES` is JSON: files of ours by path, each with `content`, `mode` and `link`. `RESULTS` is the folder for what is known
of the root: `found.json`, `listing` (paths of programs and libraries), `units.tar` (unit files). The archive is hostile:
memory, bytes and files are bounded, and each path is one below ROOT (`guest.foreign_tree`).
"""

import io
import json
import os
import re
import resource
import sys
import tarfile
from collections.abc import Iterator, Mapping
from typing import Any

from cgroup_preflight.guest.foreign_tree import ForeignError, ForeignTree, Owner
from cgroup_preflight.guest.words import SYSTEMD

#: Bytes of memory: a header can say that it is as long as the archive.
_MEMORY_MAX = 2 << 30
_MEMBERS_MAX = 1_000_000
_STATUS_MAX, _RELEASE_MAX, _UNIT_MAX = 64 << 20, 1 << 16, 1 << 20
#: What every machine mounts something on; the guest mounts the modules of its kernel on `lib/modules`.
_MODULES = "lib/modules"
_FOLDERS = (_MODULES, "dev", "proc", "sys", "run", "tmp", "var/tmp", "root", "var/lib", "var/log", "etc/systemd/system")
#: The programs that this tool starts in a guest, and their usual folders.
NEEDED = ("sh", "cat", "chmod", "env", "head", "mkdir", "mount", "rm", "rmdir", "setsid", "sleep", "stty", "systemctl",
          "systemd-stdio-bridge")  # fmt: skip
_PROGRAM_FOLDERS = ("usr/bin", "bin", "usr/sbin", "sbin", "usr/local/bin", "usr/local/sbin")
FILE_SERVERS = ("usr/lib/openssh/sftp-server", "usr/libexec/openssh/sftp-server", "usr/lib/ssh/sftp-server",
                "usr/libexec/sftp-server")  # fmt: skip
#: Folders that are links into /usr where it is merged.
_MERGED = ("bin", "sbin", "lib", "lib64")
_SHARED = re.compile(r"(?:.*/)?libsystemd-shared-([0-9]{1,4})[^/]*\.so")
_UNIT = re.compile(r"(?:etc|usr/local/lib|usr/lib|lib)/systemd/system/[^/]+(?:\.d/[^/]+\.conf)?", re.ASCII)
_LISTED = re.compile(r"(?:usr/)?(?:bin|sbin)/[^/]+|(?:usr/)?lib(?:64)?/.*\.so(?:\.[^/]*)?")
#: What people take for such an archive: the first bytes, what it is, and what to do.
_OTHERS = (
    (b"QFI\xfb", "it is the image of a disk (qcow2), and no archive of a root file system"),
    (b"\x28\xb5\x2f\xfd", "it is compressed with zstd, which is not read here: unpack it first (zstd -d)"),
    (b"hsqs", "it is a squashfs, and no archive: unpack it and make a tar of it (unsquashfs)"),
    (b"PK\x03\x04", "it is a zip archive: make a tar of what is in it"),
)
#: The names of disks in archives of cloud images.
_DISK = re.compile(r"[^/]+\.(?:raw|img|qcow2|vmdk|vhd)")
#: ELF, 64 bits, little-endian; machine 62 is x86-64 (elf(5)).
_ELF, _X86_64 = b"\x7fELF\x02\x01", b"\x3e\x00"


def unpack(archive: str, root: str, files: Mapping[str, Mapping[str, Any]]) -> ForeignTree:
    """Writes the archive below `root`, and then our files. Raises ForeignError, OSError."""
    _refuse_others(archive)
    tree = ForeignTree(root)
    try:
        with tarfile.open(archive, "r|*") as members:
            for number, member in enumerate(members):
                if number > _MEMBERS_MAX:
                    raise ForeignError(f"it has more than {_MEMBERS_MAX} entries")
                _add(tree, members, member)
    # tarfile of Python 3.11.2 (Debian 12) looks up an exception's name that a broken head of gzip finds not set yet.
    except (tarfile.TarError, EOFError, MemoryError, ValueError, AttributeError) as error:
        raise ForeignError(f"it is no archive that can be read: {str(error)[:100] or type(error).__name__}") from None
    for name in (".dockerenv", "etc/machine-id"):
        if path := tree.find(name):
            os.unlink(tree.at(path))
            del tree.files[path]
    if not tree.find(*SYSTEMD) and (disk := next(filter(_DISK.fullmatch, tree.files), "")):
        raise ForeignError(f"it has the image of a disk ({disk}), and no root file system")
    if tree.find("manifest.json") and not tree.find(*SYSTEMD):
        raise ForeignError(
            "it is an image in layers, as `docker save` writes it: export a container of it (docker export)"
        )
    for name, file in files.items():
        tree.put(name, file["content"].encode(), file["mode"], file["link"])
    if tree.find(_MODULES):
        raise ForeignError(
            f"/{_MODULES} of it is a file, and the guest needs a folder there for the modules of its kernel"
        )
    tree.finish(_FOLDERS)
    if tree.resolve(f"{_MODULES}/.") not in tree.folders:
        raise ForeignError(f"/{_MODULES} of it is a link that leads nowhere, and the guest needs a folder there")
    return tree


def _refuse_others(archive: str) -> None:
    """Raises ForeignError for what is no tar archive by its first bytes, OSError."""
    with open(archive, "rb") as file:
        begin = file.read(4)
    for first, words in _OTHERS:
        if begin == first:
            raise ForeignError(words)


def _add(tree: ForeignTree, members: tarfile.TarFile, member: tarfile.TarInfo) -> None:
    owner = Owner(mode=member.mode, uid=member.uid, gid=member.gid)
    if member.isdir():
        tree.add_folder(member.name, owner)
    elif member.isreg():
        content = members.extractfile(member)
        assert content is not None
        tree.add_file(member.name, content, member.size, owner)
    elif member.issym():
        tree.add_link(member.name, member.linkname, owner)
    elif member.islnk():
        tree.add_name(member.name, member.linkname)
    else:
        tree.left_out += 1
    # tarfile keeps all members for names that are looked up later.
    members.members.clear()  # type: ignore[attr-defined]


def found_in(tree: ForeignTree) -> dict[str, Any]:
    """What is known of a root before it boots; `lacks` has what it needs to."""
    systemd = tree.find(*SYSTEMD)
    versions = [int(match[1]) for path in tree.files if (match := _SHARED.fullmatch(path))]
    lacks = [name for name in NEEDED if tree.find(*(f"{folder}/{name}" for folder in _PROGRAM_FOLDERS)) is None]
    foreign = systemd is not None and not _is_x86_64(tree.read(systemd, 20))
    release = tree.find("etc/os-release", "usr/lib/os-release")
    return {
        "init": _first(tree, SYSTEMD), "systemd": max(versions, default=0), "lacks": lacks,
        "foreign": foreign, "title": _title(tree.read(release, _RELEASE_MAX)) if release else "",
        "file_server": _first(tree, FILE_SERVERS),
        "packages": dict(_packages(tree)), "bytes": tree.bytes, "files": len(tree.files), "left_out": tree.left_out,
    }  # fmt: skip


def _first(tree: ForeignTree, names: tuple[str, ...]) -> str:
    """The first of our names that leads to a file, as we spell it: what it leads to is the archive's word."""
    return next((f"/{name}" for name in names if tree.find(name)), "")


def _is_x86_64(head: bytes) -> bool:
    return head.startswith(_ELF) and head[18:20] == _X86_64


def _title(release: bytes) -> str:
    """PRETTY_NAME of os-release(5)."""
    for line in release.decode("utf-8", "replace").splitlines():
        key, _, value = line.partition("=")
        if key == "PRETTY_NAME":
            return value.strip().strip("\"'")[:100]
    return ""


def _packages(tree: ForeignTree) -> Iterator[tuple[str, str]]:
    """Names and versions by dpkg's status file; nothing for other package managers."""
    path = tree.find("var/lib/dpkg/status")
    name = ""
    for line in tree.read(path, _STATUS_MAX).decode("utf-8", "replace").splitlines() if path else ():
        key, _, value = line.partition(": ")
        if key == "Package":
            name = value
        elif key == "Version" and name:
            yield name, value


def write_results(tree: ForeignTree, folder: str) -> None:
    """Writes what this tool reads of an image before a boot."""
    paths = {path for path in (*tree.files, *tree.links) if _LISTED.fullmatch(path) and path.isprintable()}
    for name in _MERGED:
        merged = tree.resolve(f"{name}/.")
        if merged is not None and merged != name:
            paths |= {f"{name}{path.removeprefix(merged)}" for path in paths if path.startswith(f"{merged}/")}
    with open(os.path.join(folder, "listing"), "w", encoding="utf-8") as file:
        file.writelines(f"/{path}\n" for path in sorted(paths))
    with tarfile.open(os.path.join(folder, "units.tar"), "w", format=tarfile.PAX_FORMAT) as archive:
        for path in sorted((*tree.files, *tree.links)):
            if _UNIT.fullmatch(path) and path.isprintable():
                _add_unit(archive, tree, path)
    with open(os.path.join(folder, "found.json"), "w", encoding="utf-8") as file:
        json.dump(found_in(tree), file)


def _add_unit(archive: tarfile.TarFile, tree: ForeignTree, path: str) -> None:
    info = tarfile.TarInfo(path if path.startswith(("etc/", "usr/")) else f"usr/{path}")
    if path in tree.links:
        info.type, info.linkname = tarfile.SYMTYPE, tree.links[path]
        archive.addfile(info)
    elif tree.files[path] <= _UNIT_MAX:
        info.size = tree.files[path]
        archive.addfile(info, io.BytesIO(tree.read(path, info.size)))


def main(argv: list[str]) -> None:
    """The program; ends with a message on stderr for an archive that cannot become a root."""
    archive, root, results = argv
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_MAX, _MEMORY_MAX))
    try:
        tree = unpack(archive, root, json.load(sys.stdin))
        write_results(tree, results)
    except ForeignError as error:
        sys.exit(f"refused: {error}")
    except OSError as error:
        sys.exit(f"refused: {error.strerror or error}")


if __name__ == "__main__":
    main(sys.argv[1:])
