"""From what was found to the services of a starter config: names, slices, binaries, readiness. Pure."""

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from cgroup_preflight.cli.init.gosource import GoFile
from cgroup_preflight.cli.init.listeners import sure_port
from cgroup_preflight.cli.init.scan import SourceTree
from cgroup_preflight.config.keys import UNIT_TYPES, parse_unit_name
from cgroup_preflight.core.quantities import QuantityError

#: More would make a config that nobody reads; the rest is counted.
SERVICES_MAX = 20
NAME_MAX = 50
#: Packages of servers: what imports them serves, whatever its own calls are.
_SERVERS = (
    ("HTTP", ("github.com/gin-gonic/gin", "github.com/gorilla/mux", "github.com/labstack/echo", "github.com/gofiber/fiber",
              "github.com/go-chi/chi", "github.com/grafana/dskit/server", "github.com/zeromicro/go-zero/rest")),
)  # fmt: skip
#: Packages of programs that wait for work: consumers of queues, schedulers, controllers.
_WAITING = (
    "github.com/nats-io/nats.go", "github.com/segmentio/kafka-go", "github.com/IBM/sarama", "github.com/Shopify/sarama",
    "github.com/rabbitmq/amqp091-go", "github.com/hibiken/asynq", "github.com/robfig/cron", "go.temporal.io/sdk/worker",
    "sigs.k8s.io/controller-runtime/pkg/manager",
)  # fmt: skip
#: Packages in C: without cgo they do not build, or fail when they are used.
_IN_C = ("github.com/mattn/go-sqlite3", "github.com/confluentinc/confluent-kafka-go")
#: Folders of what a project needs, but does not run for its users.
_TOOL_FOLDERS = frozenset({
    "tool", "tools", "hack", "script", "scripts", "test", "tests", "e2e", "integration", "example", "examples", "doc",
    "docs", "contrib", "dev", "fixture", "fixtures", "mock", "mocks", "ci", "bench", "benchmark", "benchmarks", "sample", "samples",
})  # fmt: skip
_TOOL_NAME = re.compile(
    r"(?:.*[-_.])?(?:gen|generate|generator|codegen|client|test|tester|bench|benchmark|migrate|migrations?|debug|dump)"
    r"|.*(?:ctl|utl|cli|tool)|(?:gen|generate)-.*"
)
_SERVICE_NAME = re.compile(r"(?:.*[-_.])?(?:worker|consumer|daemon|agent|scheduler|exporter|operator|controller)")
_NO_NAMES = ("cmd", "main")
_PLATFORM = re.compile(r"(?:[-_.]linux)?[-_.](?:amd64|x86_64|arm64|aarch64|linux)$")
_VERSION = re.compile(r"v[0-9]+", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """One service to be; paths relative to the folder looked at.

    `source` is the folder of its `package main`, `module` that of its go.mod, each None without; `binary` the
    existing file if `built`, else where it will be built. `serves` is "HTTP", "gRPC", "TCP" or empty, `port` the one
    that it is known to open, `cgo` whether it needs a build with cgo. `is_service`: it runs until it is stopped.
    """

    name: str
    source: str | None
    module: str | None
    binary: str
    built: bool
    serves: str = ""
    port: int | None = None
    routes: tuple[str, ...] = ()
    cgo: bool = False
    is_service: bool = True

    @property
    def slice(self) -> str:
        """What answers users is in api, what can wait is in worker."""
        return "api" if self.serves else "worker"


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
    """Every `package main` with a `func main` that is no generator, by folder, then Go programs without source.

    Services come first; names are unique.
    """
    taken: set[str] = set()
    # The nearest to the top first; a path that an editor cannot show is none for a config.
    free = sorted((path for path in found.binaries if path.isprintable()), key=lambda path: (path.count("/"), path))
    folders = _folders(found)
    generators = _generators(found)
    mains = [folder for folder, files in sorted(found.packages.items())
             if any(file.has_main for file in files) and folder not in generators]  # fmt: skip
    facts = {folder: _facts(found, folder, folders) for folder in mains}
    services = _services(facts)
    some = [_program(found, folder, facts[folder], free, taken, is_service=folder in services)
            for folder in sorted(mains, key=lambda item: (item not in services, item))]  # fmt: skip
    prebuilt = tuple(_prebuilt(found, free, taken))
    return (*(item for item in some if item.is_service), *prebuilt, *(item for item in some if not item.is_service))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Facts:
    """What the source of a program says: `waits` is whether something shows that it runs until it is stopped."""

    serves: str
    waits: bool
    is_tool: bool
    port: int | None
    routes: tuple[str, ...]
    cgo: bool


def _facts(found: SourceTree, folder: str, folders: Mapping[str, str]) -> _Facts:
    reached = [found.packages[part] for part in _reached(found, folder, folders)]
    files = [file for package in reached for file in package]
    imports = frozenset[str]().union(*(file.imports for file in files))
    serves = {kind for file in files for kind in file.listening.serves}
    serves |= {kind for kind, names in _SERVERS if any(name.startswith(names) for name in imports)}
    base = folder.rpartition("/")[2]
    return _Facts(
        serves=next((kind for kind in ("gRPC", "HTTP", "TCP") if kind in serves), ""),
        waits=bool(serves) or any(file.listening.runs for file in found.packages[folder])
        or any(name.startswith(_WAITING) for name in imports)
        # In a large tree the file that listens may not have been read.
        or (not found.complete and base == _last_part(found.modules.get("", ""))) or _SERVICE_NAME.fullmatch(base) is not None,
        is_tool=not _TOOL_FOLDERS.isdisjoint(folder.split("/")) or _TOOL_NAME.fullmatch(base) is not None,
        port=sure_port([file.listening for file in files]),
        routes=tuple(dict.fromkeys(route for file in files for route in file.routes)),
        cgo=any(map(_needs_cgo, reached)),
    )  # fmt: skip


def _needs_cgo(package: Iterable[GoFile]) -> bool:
    """Whether the package has C, its own or that of a package that it imports, and no file for builds without cgo."""
    files = list(package)
    in_c = any(file.imports_c or any(name.startswith(_IN_C) for name in file.imports) for file in files)
    return in_c and not any(file.without_cgo for file in files)


def _services(facts: Mapping[str, _Facts]) -> frozenset[str]:
    """The folders of services. Where nothing looks like one, the next best: no test is certain, and one has to be tried."""
    tests: tuple[Callable[[_Facts], bool], ...] = (
        lambda item: item.waits and not item.is_tool, lambda item: item.waits, lambda item: not item.is_tool,
    )  # fmt: skip
    for test in tests:
        services = frozenset(folder for folder, item in facts.items() if test(item))
        if services:
            return services
    return frozenset()


def _generators(found: SourceTree) -> frozenset[str]:
    """The folders of programs that `go generate` runs."""
    return frozenset(
        os.path.normpath(f"/{folder}/{path}").lstrip("/")
        for folder, files in found.packages.items() for file in files for path in file.generators
    )  # fmt: skip


def _prebuilt(found: SourceTree, free: list[str], taken: set[str]) -> Iterator[Program]:
    """Go programs that no source here explains; of several builds of one program the first."""
    for path in free:
        name = sanitise(_PLATFORM.sub("", path.rpartition("/")[2]), "app")
        if found.binaries[path] and name not in taken:
            yield Program(name=unused(name, taken), source=None, module=None, binary=path, built=True)


def _program(
    found: SourceTree, folder: str, facts: _Facts, free: list[str], taken: set[str], *, is_service: bool
) -> Program:
    module = _module_of(found, folder)
    base, chosen = _names(found, folder, module)
    name = unused(sanitise(chosen, "app"), taken)
    binary = _take_binary(free, {name, base})
    return Program(
        name=name, source=folder, module=module, binary=binary or f"dist/{name}", built=binary is not None,
        serves=facts.serves, port=facts.port, routes=facts.routes, cgo=facts.cgo, is_service=is_service,
    )  # fmt: skip


def _names(found: SourceTree, folder: str, module: str | None) -> tuple[str, str]:
    """The name that `go build` gives the program, the last part of its import path, and one that says more."""
    base = folder.rpartition("/")[2]
    if module == folder and found.modules[folder]:
        base = _last_part(found.modules[folder])
        above = [part for part in found.modules[folder].split("/")[1:] if part != base and not _VERSION.fullmatch(part)]
        return base, above[-1] if base in (*_NO_NAMES, "server") and above else base
    above = [part for part in folder.split("/") if part not in _NO_NAMES]
    return base, above[-1] if base in _NO_NAMES and above else base


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


def _folders(found: SourceTree) -> dict[str, str]:
    """Import path to folder, for the packages of all modules of the tree: `go.work` and `replace` join them."""
    paths = {}
    for folder in found.packages:
        module = _module_of(found, folder)
        if module is not None and found.modules[module]:
            inside = folder.removeprefix(module).lstrip("/")
            paths[f"{found.modules[module]}/{inside}".rstrip("/")] = folder
    return paths


def _reached(found: SourceTree, folder: str, folders: Mapping[str, str]) -> Iterator[str]:
    """The folders of the packages of the tree that a program imports, directly or not; itself first."""
    pending, seen = [folder], {folder}
    while pending:
        current = pending.pop(0)
        yield current
        for file in found.packages[current]:
            for name in sorted(file.imports):
                target = folders.get(name)
                if target is not None and target not in seen:
                    seen.add(target)
                    pending.append(target)
