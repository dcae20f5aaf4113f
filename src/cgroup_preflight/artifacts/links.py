"""Symbolic links of an archive, remembered so that a path can be followed as the unpacked tree would be."""

from collections.abc import Iterable

from cgroup_preflight.artifacts.errors import too_large

#: As the kernel: more links in one path are taken for a loop (path_resolution(7)).
_HOPS_MAX = 40


class Links:
    """Links by their path; an absolute target begins at `root`, the prefix of what is unpacked to /."""

    def __init__(self, root: str, limit: int) -> None:
        self._root = root.split("/") if root else []
        self._limit = limit
        self._targets: dict[str, str] = {}

    def add(self, path: str, target: str) -> None:
        """Remembers a link. Raises ArtifactError where there are too many to remember."""
        if len(self._targets) >= self._limit:
            raise too_large(f"more than {self._limit} symbolic links", "--max-members (a tenth of it may be links)")
        self._targets[path] = target

    def paths(self) -> Iterable[str]:
        """Where the links are."""
        return self._targets.keys()

    def place(self, path: str) -> str:
        """Where a member named `path` ends up: links are followed in its folders, not in its last part."""
        return self._follow(path, last=False)

    def target(self, path: str) -> str:
        """Where reading `path` ends up."""
        return self._follow(path, last=True)

    def _follow(self, path: str, *, last: bool) -> str:
        if not self._targets:
            return path
        done: list[str] = []
        todo, hops = path.split("/")[::-1], 0
        while todo:
            part = todo.pop()
            if part in ("", "."):
                continue
            if part == "..":
                del done[-1:]
                continue
            done.append(part)
            target = self._targets.get("/".join(done)) if todo or last else None
            if target is None:
                continue
            hops += 1
            if hops > _HOPS_MAX:
                return path
            done = list(self._root) if target.startswith("/") else done[:-1]
            todo += target.split("/")[::-1]
        return "/".join(done)
