"""The tree of an archive that nobody here made, written to a folder: no path of it leads out, and no device comes along.

Links of the archive mean what they mean in its own root (chroot(2)): the folders of a path are resolved against the links
that came before, so that nothing is written through a link.
"""

import os
import shutil
from collections.abc import Iterable

from cgroup_preflight.core.records import TYPE_CHECKING, dataclass

if TYPE_CHECKING:
    from typing import IO

#: ext4 and Linux (path_resolution(7), limits.h).
_NAME_MAX, _PATH_MAX, _TARGET_MAX = 255, 4000, 4000
_STEPS_MAX = 200
_FILES_MAX = 500_000
#: Bytes of all files.
BYTES_MAX = 8 << 30
#: The highest user that has a name in a namespace of an ordinary user.
_USER_MAX = 65534
#: What a machine makes itself when it boots.
_MADE_AT_BOOT = frozenset({"dev", "proc", "sys", "run", "tmp"})


class ForeignError(Exception):
    """The archive cannot become a root; the message says why, in one line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """Owner and permission bits of a file of the archive."""

    mode: int
    uid: int
    gid: int


class ForeignTree:
    """A root below `folder`, which nobody else can write to. `links` are its symbolic links, `files` sizes of its files."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self.folders: dict[str, Owner] = {}
        self.links: dict[str, str] = {}
        self.files: dict[str, int] = {}
        self.bytes = self.left_out = 0
        self._add_folder("")

    def add_folder(self, name: str, owner: Owner) -> None:
        """A folder; one that exists gets this owner in the end. Raises ForeignError."""
        path = self.resolve(name)
        if path is None or self._is_made_at_boot(path):
            return
        if path in self.links:
            # A link to a folder, and then the folder: what is in it belongs where the link leads (tar, --keep-directory-symlink).
            path = self.resolve(f"{name}/.") or ""
        if path in self.files:
            self._unlink(path)
        if path not in self.folders:
            self._add_folder(path)
        self.folders[path] = owner

    def add_file(self, name: str, content: "IO[bytes]", size: int, owner: Owner) -> str:
        """A file; replaces what is no folder. Its path, empty where it is left out. Raises ForeignError, OSError."""
        path = self._place(name)
        if not path:
            return ""
        self.bytes += size
        if self.bytes > BYTES_MAX:
            raise ForeignError(f"it has more than {BYTES_MAX >> 30} GiB")
        handle = os.open(self.at(path), os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with os.fdopen(handle, "wb") as file:
            shutil.copyfileobj(content, file, 1 << 20)
        self._own(path, owner)
        self.files[path] = size
        return path

    def add_link(self, name: str, target: str, owner: Owner) -> None:
        """A symbolic link, whatever it leads to. Raises ForeignError, OSError."""
        if not target or "\0" in target or len(os.fsencode(target)) > _TARGET_MAX:
            self.left_out += 1
            return
        path = self._place(name)
        if path:
            os.symlink(target, self.at(path))
            os.chown(self.at(path), *_users(owner), follow_symlinks=False)
            self.links[path] = target

    def add_name(self, name: str, other: str) -> None:
        """A second name for the file `other` (link(2)), which must have come before. Raises ForeignError, OSError."""
        source = self.resolve(other)
        if source is None or (source not in self.files and source not in self.links):
            self.left_out += 1
            return
        if self.resolve(name) == source or not (path := self._place(name)):
            return
        if source not in self.files and source not in self.links:
            # It was in the way of a folder of the new name.
            self.left_out += 1
            return
        os.link(self.at(source), self.at(path), follow_symlinks=False)
        if source in self.files:
            self.files[path] = self.files[source]
        else:
            self.links[path] = self.links[source]

    def put(self, name: str, content: bytes, mode: int, link: str = "") -> None:
        """A file of ours, or a link. Raises ForeignError where it has no place."""
        path = self._place(name)
        if not path:
            raise ForeignError(f"/{name.strip('/')} of it is a folder, or below one that is made at boot")
        if link:
            os.symlink(link, self.at(path))
            self.links[path] = link
            return
        handle = os.open(self.at(path), os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        self._own(path, Owner(mode=mode, uid=0, gid=0))
        self.files[path] = len(content)

    def finish(self, folders: Iterable[str]) -> None:
        """Makes `folders` that do not exist, and gives all folders their owners, the deepest first."""
        for name in folders:
            path = self.resolve(f"{name}/.")
            if path is not None and path not in self.folders and path not in self.files:
                self._add_folder(path)
        for path, owner in sorted(self.folders.items(), reverse=True):
            os.chown(self.at(path), *_users(owner), follow_symlinks=False)
            os.chmod(self.at(path), owner.mode & 0o7777)

    def find(self, *names: str) -> str | None:
        """The first of these paths that leads to a file of the tree, links followed; None for none."""
        for name in names:
            path = self.resolve(f"{name}/.")
            if path is not None and path in self.files:
                return path
        return None

    def read(self, path: str, most: int) -> bytes:
        """The first bytes of a file that `find` has found."""
        with open(self.at(path), "rb") as file:
            return file.read(most)

    def at(self, path: str) -> str:
        """Where a path of the tree is on this host; none of its folders is a link."""
        return f"{self._folder}/{path}" if path else self._folder

    def resolve(self, name: str) -> str | None:
        """The path of a name in the tree without links in it but the last part; None for a loop of links.

        With `/.` at the end the last part is followed, too. Raises ForeignError for a name that no file can have.
        """
        if "\0" in name or len(os.fsencode(name)) > _PATH_MAX:
            raise ForeignError("a path in it is longer than a path may be")
        done: list[str] = []
        left = [part for part in name.split("/") if part][::-1]
        for _ in range(_STEPS_MAX):
            if not left:
                return "/".join(done)
            part = left.pop()
            if part == ".":
                continue
            if part == "..":
                del done[-1:]
                continue
            if len(os.fsencode(part)) > _NAME_MAX:
                raise ForeignError("a name in it is longer than a name may be")
            path = "/".join([*done, part])
            target = self.links.get(path) if left else None
            if target is None:
                done.append(part)
                continue
            done = [] if target.startswith("/") else done
            left += [item for item in target.split("/") if item][::-1]
        return None

    def _place(self, name: str) -> str:
        """A path at which nothing exists any more, in a folder that does; empty for what is left out."""
        path = self.resolve(name)
        if not path or path in self.folders or self._is_made_at_boot(path):
            self.left_out += 1
            return ""
        if len(self.files) + len(self.links) + len(self.folders) >= _FILES_MAX:
            raise ForeignError(f"it has more than {_FILES_MAX} files")
        if path in self.files or path in self.links:
            self._unlink(path)
        parent = path.rpartition("/")[0]
        if parent not in self.folders:
            self._add_folder(parent)
        return path

    def _is_made_at_boot(self, path: str) -> bool:
        return path.partition("/")[0] in _MADE_AT_BOOT and "/" in path

    def _add_folder(self, path: str) -> None:
        """A folder and those above it. A file that is in the way goes: the archive says now that it is a folder."""
        if path in self.folders:
            return
        if path:
            self._add_folder(path.rpartition("/")[0])
        if path in self.files or path in self.links:
            self._unlink(path)
        os.mkdir(self.at(path), 0o700)
        self.folders[path] = Owner(mode=0o755, uid=0, gid=0)

    def _unlink(self, path: str) -> None:
        os.unlink(self.at(path))
        self.files.pop(path, None)
        self.links.pop(path, None)

    def _own(self, path: str, owner: Owner) -> None:
        os.chown(self.at(path), *_users(owner), follow_symlinks=False)
        # After the change of owner, which clears set-user-ID (chown(2)).
        os.chmod(self.at(path), owner.mode & 0o7777)


def _users(owner: Owner) -> tuple[int, int]:
    uid, gid = (number if 0 <= number <= _USER_MAX else 0 for number in (owner.uid, owner.gid))
    return uid, gid
