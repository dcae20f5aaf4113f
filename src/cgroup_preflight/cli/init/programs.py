"""From what was found to the services of a starter config: names, slices, binaries, readiness. Pure."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from cgroup_preflight.cli.init.scan import SourceTree
from cgroup_preflight.config.keys import UNIT_TYPES, parse_unit_name
from cgroup_preflight.core.quantities import QuantityError

#: More would make a config that nobody reads; the rest is counted.
SERVICES_MAX = 20
NAME_MAX = 50
#: Packages that serve HTTP, besides the standard library's.
_HTTP = frozenset({"net/http", "github.com/gin-gonic/gin", "github.com/gorilla/mux"})
_HTTP_PREFIXES = ("github.com/labstack/echo", "github.com/gofiber/fiber", "github.com/go-chi/chi")
_PLATFORM = re.compile(r"(?:[-_.]linux)?[-_.](?:amd64|x86_64|arm64|aarch64|linux)$")
_VERSION = re.compile(r"v[0-9]+", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """One service to be; paths relative to the folder looked at.

    `source` is the folder of its `package main`, `module` that of its go.mod, each None without; `binary` the
    existing file if `built`, else where it will be built. `ports` and `routes` come from its source.
    """

    name: str
    source: str | None
    module: str | None
    binary: str
    built: bool
    http: bool
    ports: tuple[int, ...]
    routes: tuple[str, ...]

    @property
    def slice(self) -> str:
        """What answers users is in api, what can wait is in worker."""
        return "api" if self.http else "worker"


def sanitise(text: str, fallback: str) -> str:
    """A name that the config accepts, as near to `text` as can be."""
    words = re.findall(r"[A-Za-z0-9_]+(?:\.[A-Za-z0-9_]+)*", text[:1000], re.ASCII)
    name = "-".join(words)[:NAME_MAX].strip("-._")
    while name.rpartition(".")[2] in UNIT_TYPES:
        name = name.rpartition(".")[0]
    try:
        return parse_unit_name(name)
    except QuantityError:
        return fallback


def project_name(found: SourceTree, folder: str) -> str:
    """The last part of the module path at the top, else the folder's name."""
    module = found.modules.get("", "")
    return sanitise(_last_part(module) if module else folder, "project")


def programs(found: SourceTree) -> tuple[Program, ...]:
    """Every `package main` with a `func main`, by folder, then Go programs without one; names are unique."""
    taken: set[str] = set()
    # The nearest to the top first; a path that an editor cannot show is none for a config.
    free = sorted((path for path in found.binaries if path.isprintable()), key=lambda path: (path.count("/"), path))
    some = [_program(found, folder, free, taken) for folder, files in sorted(found.packages.items())
            if any(file.has_main for file in files)]  # fmt: skip
    return (*some, *_prebuilt(found, free, taken))


def _prebuilt(found: SourceTree, free: list[str], taken: set[str]) -> Iterator[Program]:
    """Go programs that no source here explains; of several builds of one program the first."""
    for path in free:
        name = sanitise(_PLATFORM.sub("", path.rpartition("/")[2]), "app")
        if found.binaries[path] and name not in taken:
            yield Program(
                name=unused(name, taken), source=None, module=None, binary=path, built=True, http=False, ports=(),
                routes=(),
            )  # fmt: skip


def _program(found: SourceTree, folder: str, free: list[str], taken: set[str]) -> Program:
    module = _module_of(found, folder)
    # `go build` names a program after the last part of its import path.
    base = folder.rpartition("/")[2]
    if module == folder and found.modules[folder]:
        base = _last_part(found.modules[folder])
    name = unused(sanitise(base, "app"), taken)
    binary = _take_binary(free, {name, base})
    reached = [file for part in _reached(found, folder, module) for file in found.packages.get(part, ())]
    return Program(
        name=name, source=folder, module=module, binary=binary or f"dist/{name}", built=binary is not None,
        http=any(_serves_http(file.imports) for file in reached),
        ports=tuple(dict.fromkeys(port for file in reached for port in file.ports)),
        routes=tuple(dict.fromkeys(route for file in reached for route in file.routes)),
    )  # fmt: skip


def _module_of(found: SourceTree, folder: str) -> str | None:
    """The folder of the nearest go.mod at or above `folder`."""
    for parent in _upwards(folder):
        if parent in found.modules:
            return parent
    return None


def _upwards(folder: str) -> Iterator[str]:
    while folder:
        yield folder
        folder = folder.rpartition("/")[0]
    yield ""


def _last_part(module: str) -> str:
    """`shop` of `example.com/shop/v2`: a major version is no name."""
    parts = [part for part in module.split("/") if part]
    if len(parts) > 1 and _VERSION.fullmatch(parts[-1]):
        parts.pop()
    return parts[-1] if parts else ""


def unused(name: str, taken: set[str]) -> str:
    """The name, with a number behind it where it is in `taken`, which learns of it."""
    number, chosen = 1, name
    while chosen in taken:
        number += 1
        chosen = f"{name}-{number}"
    taken.add(chosen)
    return chosen


def _take_binary(free: list[str], names: set[str]) -> str | None:
    """The first program with one of `names`, with or without a platform behind it; it is removed from the list."""
    for path in free:
        base = path.rpartition("/")[2]
        if base in names or _PLATFORM.sub("", base) in names:
            free.remove(path)
            return path
    return None


def _reached(found: SourceTree, folder: str, module: str | None) -> Iterator[str]:
    """The folders of the packages of its own module that a program imports, directly or not; itself first."""
    path = found.modules.get(module, "") if module is not None else ""
    folders = _folders(found.packages, path, module or "")
    pending, seen = [folder], {folder}
    while pending:
        current = pending.pop(0)
        yield current
        for file in found.packages.get(current, ()):
            for name in sorted(file.imports):
                target = folders.get(name)
                if target is not None and target not in seen:
                    seen.add(target)
                    pending.append(target)


def _folders(packages: Mapping[str, object], module_path: str, module: str) -> dict[str, str]:
    """Import path to folder, for the packages of one module."""
    if not module_path:
        return {}
    prefix = f"{module}/" if module else ""
    return {f"{module_path}/{folder.removeprefix(prefix)}": folder for folder in packages
            if folder.startswith(prefix) and folder != module}  # fmt: skip


def _serves_http(imports: frozenset[str]) -> bool:
    return bool(imports & _HTTP) or any(name.startswith(_HTTP_PREFIXES) for name in imports)
