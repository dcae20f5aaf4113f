"""The starter config as text: commented TOML that loads as it is. Pure; every found word is escaped.

The limits are those that suit a Go service: MemoryMax well above a small server's 10M, no swap (the collector
touches the whole heap, so a swapped one thrashes), TasksMax above GOMAXPROCS + 16 threads on a large machine.
"""

import os
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from cgroup_preflight.cli.init.programs import SERVICES_MAX, Program
from cgroup_preflight.report.escape import plain

_HEAD = """\
# cgroup-preflight: the limits of this project, and how they are proven before the merge.
# Keys and values are spelled as systemd spells them (man systemd.resource-control). All numbers here are a
# start: run `cgroup-preflight run`, look at peak and throttling, then set what your services need.
# For completion in an editor: cgroup-preflight schema --output cgroup-preflight.schema.json, and a first line
# `#:schema ./cgroup-preflight.schema.json`.
"""
REQUIRE = """
[require]                           # what a host must offer; without it the verdict is not "pass"
controllers = ["memory", "cpu"]
systemd = ">=249"                   # Ubuntu 22.04 and later, Debian 12 and later
"""
SMOKE = """
[smoke]
engine = "auto"                     # who starts the services: systemd, else your own manager, a delegated cgroup, a VM
"""
_SLICES = """
# Slices hold services that share limits. Dashes in a name nest, as in systemd: [slices.{project}] would be a roof
# over [slices.{project}-api] and [slices.{project}-worker], and a limit there holds for both together.

[slices.api]                        # what answers users
MemoryMax = "{api}M"{pad_api}# the sum of its services and a quarter: the last net, not the first
CPUWeight = 80                      # under contention, 4 times the worker's share
# IOWeight = 60                     # shares of the disk; needs io.cost or bfq on the host

[slices.worker]                     # what can wait
MemoryMax = "{worker}M"{pad_worker}# the sum of its services and a quarter
CPUWeight = 20                      # a share: shows only when the CPU is contended
CPUQuota = "90%"                    # all background work together; below one CPU it can be proven anywhere
"""
_EXAMPLE = """
# No `package main` was found here. Take the marks away, name your program, and run init's next command.
#
# [services.hello]
# binary = "dist/hello"             # relative to this file
# slice = "api"
# MemoryMax = "128M"                # hard: above it the kernel kills
# MemorySwapMax = 0                 # a Go heap that swaps thrashes; let it fail instead
# CPUQuota = "90%"                  # of one CPU; set it here, since Go reads only the quota of its own cgroup
# TasksMax = 128                    # threads count; Go needs GOMAXPROCS + 16 at least
#
# [services.hello.smoke]
# args = ["--port=8080"]
# ready = "http://127.0.0.1:8080/healthz"     # or tcp://127.0.0.1:8080, unix:/PATH, log:REGEX, exit
# duration = "5s"
"""
_ARTIFACTS = """
# [artifacts]
# inject = ["dist/*.tar.gz", "dist/*.deb"]    # packages that get the unit files
"""
_TOOLS_MAX = 50
_MEMORY = {"api": 128, "worker": 96}
#: Below one CPU, so that each can be used up, and so proven, on a machine or in a guest with one.
_QUOTA = {"api": "90%", "worker": "50%"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Starter:
    """What goes into the file; `base` is the way from the config's folder to the one looked at, "." for the same."""

    project: str
    programs: Sequence[Program]
    base: str = "."


def write(starter: Starter) -> str:
    """The whole file, which `config.load` takes without a mistake."""
    services = [item for item in starter.programs if item.is_service]
    shown = services[:SERVICES_MAX]
    parts = [_HEAD, f"\n[project]\nname = {quote(starter.project)}\n", REQUIRE, SMOKE]
    parts.append(_slices(starter.project, shown))
    seen: dict[int, str] = {}
    parts += [_service(program, starter.base, seen) for program in shown]
    if not shown:
        parts.append(_EXAMPLE)
    if len(services) > len(shown):
        names = ", ".join(plain(item.name) for item in services[SERVICES_MAX:][:50])
        parts.append(f"\n# {len(services) - len(shown)} more programs were found and left out: {names}\n")
    return "".join([*parts, _tools([item for item in starter.programs if not item.is_service]), _ARTIFACTS])


def quote(text: str) -> str:
    """A TOML basic string; characters that are not visible become escapes."""
    return '"' + "".join(_quoted(char) for char in text) + '"'


def _quoted(char: str) -> str:
    if char in ('"', "\\"):
        return f"\\{char}"
    if plain(char) == char:
        return char
    return f"\\u{ord(char):04X}" if ord(char) < 0x10000 else f"\\U{ord(char):08X}"


def build_command(program: Program) -> str:
    """The command that builds it, to be run in the folder looked at; empty where there is no go.mod.

    `go build -C` (Go 1.20) takes the other paths from the module's folder.
    """
    if program.module is None or program.source is None:
        return ""
    inside = os.path.relpath(program.source or ".", program.module or ".")
    words = ["go", "build", "-o", f"dist/{program.name}", "." if inside == "." else f"./{inside}"]
    if program.module:
        words[2:4] = ["-C", program.module, "-o", os.path.relpath(f"dist/{program.name}", program.module)]
    return plain(f"CGO_ENABLED={int(program.cgo)} {shlex.join(words)}")


def _slices(project: str, programs: Iterable[Program]) -> str:
    sums = dict.fromkeys(_MEMORY, 0)
    for program in programs:
        sums[program.slice] += _MEMORY[program.slice]
    sizes = {name: (total or _MEMORY[name]) * 5 // 4 for name, total in sums.items()}
    pads = {f"pad_{name}": " " * (36 - len(f'MemoryMax = "{size}M"')) for name, size in sizes.items()}
    return _SLICES.format(project=project, **sizes, **pads)


def _service(program: Program, base: str, seen: dict[int, str]) -> str:
    source = "built program, no source here" if program.source is None else f"package main in {program.source or '.'}"
    build = build_command(program)
    path = program.binary if base == "." else os.path.join(base, program.binary)
    name = quote(program.name) if "." in program.name else program.name
    lines = [
        "",
        f"# {plain(source)}" + ("" if program.built else ", not built yet"),
        *([f"# build: {build}"] if build and not program.built else []),
        f"[services.{name}]",
        f"binary = {quote(path)}",
        key_line(
            "slice", quote(program.slice), f"serves {program.serves}" if program.serves else "api, if it answers users"
        ),
        key_line("MemoryMax", f'"{_MEMORY[program.slice]}M"', "hard: above it the kernel kills"),
        key_line("MemorySwapMax", "0", "a Go heap that swaps thrashes; let it fail instead"),
        key_line("CPUQuota", f'"{_QUOTA[program.slice]}"', "of one CPU; here, since Go reads only its own cgroup"),
        key_line("TasksMax", "128", "threads count; Go needs GOMAXPROCS + 16 at least"),
        "",
        f"[services.{name}.smoke]",
        '# args = ["--flag=value"]',
        *_ready(program, seen),
        key_line("duration", '"5s"', "how long it runs under its limits"),
    ]
    return "\n".join(lines) + "\n"


def key_line(name: str, value: str, comment: str) -> str:
    """A key with a comment in the column that all comments of the file have."""
    return f"{name} = {value}".ljust(35) + f" # {comment}"


def _ready(program: Program, seen: dict[int, str]) -> Iterable[str]:
    """How it shows that it is ready: where its port is known, that; else the forms to choose from, without a port."""
    port, routes = program.port, sorted(program.routes, key=_preference)
    if port is not None and port not in seen:
        seen[port] = program.name
        address = f"127.0.0.1:{port}"
        is_http = program.serves == "HTTP" and bool(routes)
        yield f"ready = {quote(f'http://{address}{routes[0]}' if is_http else f'tcp://{address}')}"
        return
    if port is not None:
        yield f"# Port {port} is taken by {seen[port]}: all services run at the same time, so give it another."
    yield "# Without a line `ready`, a service counts as ready once it was started. One of:"
    for alternative in (
        f"http://127.0.0.1:PORT{routes[0] if routes else '/healthz'}",
        "tcp://127.0.0.1:PORT",
        "log:ready",
        "exit",
    ):
        yield f"# ready = {quote(alternative)}"


def _tools(programs: Sequence[Program]) -> str:
    """Commands that are no services, as comments."""
    if not programs:
        return ""
    lines = [
        f"#   {plain(item.name):<24} package main in {plain(item.source or '.')}" for item in programs[:_TOOLS_MAX]
    ]
    more = len(programs) - len(lines)
    return "\n".join([
        "", "# Commands that do not look like services: they open no listener and wait for nothing, or their folder or name",
        "# is that of a tool. For one that is a service, write a table [services.NAME] like those above.", *lines,
        *([f"#   and {more} more"] if more else []), "",
    ])  # fmt: skip


def _preference(route: str) -> tuple[bool, bool, int]:
    """Ready means more than healthy, and healthy more than alive."""
    return ("ready" not in route and "readi" not in route, "health" not in route, len(route))
