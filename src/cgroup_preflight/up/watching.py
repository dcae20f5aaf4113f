"""Sees when Go sources change, with watchfiles, which is an optional dependency."""

import hashlib
import queue
import threading
from collections.abc import Callable, Iterable, Sequence
from collections.abc import Set as AbstractSet

from cgroup_preflight.core.errors import HostError, UsageError
from cgroup_preflight.core.report import Remedy
from cgroup_preflight.up.build import Build

#: Of watchfiles: yields sets of changes, each a kind and a path.
Watch = Callable[..., Iterable[AbstractSet[tuple[object, str]]]]
#: What a build of Go reads, besides files that it embeds.
_NAMES = (".go", "go.mod", "go.sum", "go.work")
_MISSING = Remedy(
    title="install it with the extra: cgroup-preflight[watch]",
    commands=(("pip", "install", "cgroup-preflight[watch]"),),
)
_LIMIT = Remedy(
    title="raise the limit of watched folders of this user, or watch fewer folders (build_folder)",
    commands=(("sysctl", "fs.inotify.max_user_watches=524288"), ("sysctl", "fs.inotify.max_user_instances=512")),
    needs_root=True, docs="https://man7.org/linux/man-pages/man7/inotify.7.html",
)  # fmt: skip


def is_source(path: str) -> bool:
    """Whether a file is one that a build of Go reads."""
    return path.endswith(_NAMES)


def digest(path: str) -> str:
    """What tells two versions of a program apart; empty for no file."""
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return ""


def find_watch() -> Watch:
    """The function that waits for changes. Raises UsageError where watchfiles is not installed."""
    try:
        import watchfiles  # an optional dependency
    except ImportError:
        raise UsageError("watchfiles is not installed", where="--watch", remedy=_MISSING) from None
    found: Watch = watchfiles.watch
    return found


class Watching:
    """Watches folders in a thread of its own; `watch` is that of watchfiles."""

    def __init__(self, folders: Sequence[str], watch: Watch) -> None:
        self._watch = watch
        self._found: queue.Queue[tuple[str, ...] | BaseException] = queue.Queue()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(tuple(folders),), daemon=True)
        self._thread.start()

    def _run(self, folders: tuple[str, ...]) -> None:
        try:
            # Not ignore_permission_denied: it also hides that the inotify limit is reached (watchfiles 0.20 to 1.3).
            for changes in self._watch(*folders, stop_event=self._stop, raise_interrupt=False):
                paths = tuple(sorted(path for _, path in changes if is_source(path)))
                if paths:
                    self._found.put(paths)
        except BaseException as error:  # noqa: BLE001 - its own error types are not documented; told by `changed`
            self._found.put(error)

    def changed(self) -> tuple[str, ...]:
        """The sources that changed since the last call. Raises HostError where watching failed."""
        paths: list[str] = []
        while not self._found.empty():
            item = self._found.get_nowait()
            if isinstance(item, BaseException):
                raise HostError(f"cannot watch: {str(item)[:200]}", where="--watch", remedy=_LIMIT)
            paths += item
        return tuple(paths)

    def end(self) -> None:
        """Ends the thread."""
        self._stop.set()
        self._thread.join(timeout=5.0)


def watch_builds(builds: Sequence[Build], folder: str) -> Watching:
    """Watches the folders of builds; `folder` is that of the config, for services without a build. Raises UsageError."""
    return Watching(sorted({build.folder for build in builds} or {folder}), find_watch())
