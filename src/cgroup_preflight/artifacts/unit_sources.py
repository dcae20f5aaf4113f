"""The units of the plan's services in an artifact, with their drop-ins, and the environment files that they name."""

import posixpath
from collections.abc import Callable, Iterator

from cgroup_preflight.artifacts.content import ContentRequest
from cgroup_preflight.artifacts.environment import Conflict, conflicts, environment_files
from cgroup_preflight.artifacts.overrides import UnitPaths, is_drop_in

#: Where packages have such files (Debian's policy 9.3.3.2, Fedora's and Gentoo's habits): read without a second look.
_FOLDERS = ("etc/default/", "etc/sysconfig/", "etc/conf.d/")


class UnitSources:
    """What one look at an artifact kept; `also` are further paths to keep."""

    def __init__(self, request: ContentRequest, paths: UnitPaths, also: frozenset[str]) -> None:
        self._request = request
        self._paths = paths
        self._also = also
        self._folders = tuple(request.below(folder) for folder in _FOLDERS)
        self._files: dict[str, bytes | None] = {}

    def wants(self, path: str) -> bool:
        """Whether the content of the file at `path` is needed."""
        if path.endswith((".service", ".conf")) and self._label(path):
            return True
        return path.startswith(self._folders) or path in self._also

    def add(self, path: str, data: bytes | None) -> None:
        """Takes the content of a file that is wanted; None where it is too large to keep."""
        self._files[path] = data

    def missing(self, exists: Callable[[str], bool]) -> frozenset[str]:
        """Environment files of the artifact that units name, and that were not kept."""
        named = {
            self._request.below(path.lstrip("/"))
            for service in self._request.plan.services
            for path in environment_files(self._texts(service.label), service)
        }
        return frozenset(path for path in named if path not in self._files and exists(path))

    def conflicts(self) -> Iterator[tuple[str, Conflict]]:
        """What changes the environment of a service, with its unit."""
        root = self._request.below("")
        files = {f"/{path.removeprefix(root)}": data for path, data in self._files.items() if path.startswith(root)}
        for service in self._request.plan.services:
            for found in conflicts(service, self._texts(service.label), files):
                yield service.unit, found

    def _label(self, path: str) -> str:
        """The service that a unit file or a drop-in at `path` is of; ours say what the plan says."""
        folder, _, name = path.rpartition("/")
        if name.endswith(".conf") and folder.endswith(".d") and not is_drop_in(name):
            return self._paths.unit_of(folder.removesuffix(".d")) or ""
        return self._paths.unit_of(path) or ""

    def _texts(self, label: str) -> list[str]:
        """The unit file that systemd reads, then the drop-ins in the order of their names."""
        own = [path for path in self._files if self._label(path) == label]
        units = sorted((path for path in own if not path.endswith(".conf")), key=self._paths.precedence)
        drop_ins = sorted((path for path in own if path.endswith(".conf")), key=posixpath.basename)
        return [(self._files[path] or b"").decode("utf-8", "replace") for path in (*units[:1], *drop_ins)]
