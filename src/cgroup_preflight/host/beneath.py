"""Names of files that no link can lead elsewhere after they were checked.

A path is looked up again at every use, and whoever may write to one of its folders can put a link there in between. Here
each folder on the way is opened once, from its parent and without following links (openat(2), O_NOFOLLOW); what is used
from then on is a name in the last one, through its descriptor.
"""

import contextlib
import errno
import os
from collections.abc import Iterator

#: Linux only; elsewhere artifacts are built, too, and names stay as they are.
_HAS_NAMES = hasattr(os, "O_PATH") and os.path.isdir("/proc/self/fd")


class MovedError(OSError):
    """A folder on the way is a link now, or gone."""


@contextlib.contextmanager
def without_links(path: str) -> Iterator[str]:
    """A name for the absolute `path`, which has no links in it; it stays valid in the block.

    Raises MovedError where a folder on the way is a link. The last part is not looked at.
    """
    folder, name = os.path.split(path)
    if not name:
        yield path
        return
    with folder_below("/", folder) as place:
        yield os.path.join(place, name)


@contextlib.contextmanager
def folder_below(top: str, path: str, *, mode: int | None = None) -> Iterator[str]:
    """A name for the folder `path` below the folder `top`; with `mode`, folders that are missing are made.

    Raises MovedError, OSError.
    """
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise MovedError(errno.EXDEV, "leads out of the folder", path)
    if not _HAS_NAMES:
        place = os.path.join(top, *parts)
        if mode is not None:
            os.makedirs(place, mode, exist_ok=True)
        yield place
        return
    handle = os.open(top, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for part in parts:
            below = _enter(handle, part, mode, path)
            os.close(handle)
            handle = below
        yield f"/proc/self/fd/{handle}"
    finally:
        os.close(handle)


def _enter(handle: int, part: str, mode: int | None, path: str) -> int:
    if mode is not None:
        with contextlib.suppress(FileExistsError):
            os.mkdir(part, mode, dir_fd=handle)
            os.chmod(part, mode, dir_fd=handle)  # whatever the umask of the job is
    try:
        # With O_PATH, O_NOFOLLOW alone would open the link itself; O_DIRECTORY refuses that (open(2)).
        return os.open(part, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=handle)
    except NotADirectoryError:
        raise MovedError(errno.ELOOP, "a folder on the way is a link or a file", path) from None
