"""What one Go source file tells without a Go toolchain: package, imports, what it serves. Pure; the text is hostile.

Source of the rules: the Go language specification (comments, string literals, package clause), `go help generate`
and the documentation of cmd/cgo.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from cgroup_preflight.cli.init.constraints import is_built, is_for_linux
from cgroup_preflight.cli.init.listeners import NOTHING, Listening, listening

#: Comments go, literals stay. An unfinished literal is one, too: looking for its end again from every quote
#: inside would take hours on a file made for that.
_TOKEN = re.compile(
    r"//[^\n]*|/\*.*?(?:\*/|\Z)|(?P<string>\"(?:\\[^\n]|[^\"\\\n])*+(?:\"|\\?(?=\n|\Z))|`[^`]*(?:`|\Z))"
    r"|'(?:\\[^\n]|[^'\\\n])*+(?:'|\\?(?=\n|\Z))",
    re.DOTALL,
)
_PACKAGE = re.compile(r"\s*package\s+(\w{1,200})", re.ASCII)
#: A `main` that does nothing serves `go generate`, `go vet` or a plugin (-buildmode=c-shared).
_MAIN = re.compile(r"^func\s+main\s*\(\s*\)\s*\{(?!\s*\})", re.MULTILINE)
_IMPORT = re.compile(r"[A-Za-z0-9][\w.~-]{0,100}(?:/[\w.~-]{1,100}){1,20}", re.ASCII)
_IMPORT_C = re.compile(r'^[ \t]*(?:import[ \t]+)?"C"[ \t]*;?$', re.MULTILINE)
_GENERATOR = re.compile(
    r"^//go:generate[ \t]+go[ \t]+run[ \t]+(?:-[^\s]{1,80}[ \t]+){0,8}([\w./-]{1,200})(?!\S)", re.MULTILINE
)
_HEALTH = "healthz?|healthy|health[-_]?check|readyz?|readiness|livez?|liveness|alive|ping"
_ROUTE = re.compile(rf"(?:GET )?(/(?:[\w.-]{{1,40}}/){{0,4}}_?(?:{_HEALTH}))", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class GoFile:
    """Facts of one file. `has_main`: it has a `func main` that does something; `routes` look like health checks.

    `imports` holds every literal that has the form of an import path with a slash. `imports_c`: only a build with
    cgo has the file; `without_cgo`: only one without, and then the file has no other facts. `generators` are the
    folders or files that its `go:generate` lines run, as written.
    """

    package: str
    has_main: bool = False
    imports: frozenset[str] = frozenset()
    routes: tuple[str, ...] = ()
    imports_c: bool = False
    without_cgo: bool = False
    generators: tuple[str, ...] = ()
    listening: Listening = NOTHING


def read_file(name: str, text: str) -> GoFile | None:
    """The facts of the file `name`; None for a test, a file for another system, and what is not Go."""
    if not is_for_linux(name):
        return None
    code = _TOKEN.sub(lambda found: found["string"] or " ", text)
    package = _PACKAGE.match(code.removeprefix("\ufeff"))
    if package is None:
        return None
    if not is_built(text, cgo=True):
        return GoFile(package=package[1], without_cgo=True) if is_built(text, cgo=False) else None
    strings = [found[1:-1] for found in _strings(text)]
    return GoFile(
        package=package[1],
        has_main=package[1] == "main" and _MAIN.search(code) is not None,
        imports=frozenset(item for item in strings if _IMPORT.fullmatch(item)),
        routes=tuple(dict.fromkeys(match[1] for item in strings if (match := _ROUTE.fullmatch(item)))),
        imports_c=_IMPORT_C.search(code) is not None,
        generators=tuple(_GENERATOR.findall(text)),
        listening=listening(code),
    )


def _strings(text: str) -> Iterator[str]:
    for match in _TOKEN.finditer(text):
        if match["string"]:
            yield match["string"]
