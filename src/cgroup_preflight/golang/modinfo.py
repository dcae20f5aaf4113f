"""Build info as data, and printed exactly as `go version -m` prints it.

Source: runtime/debug/mod.go (`BuildInfo.String`) and cmd/go/internal/version of Go 1.27.
All strings come from the file: they may hold control characters, and surrogate escapes for bytes that are not
UTF-8. Escape them before they reach a terminal.
"""

from collections.abc import Iterator

from cgroup_preflight.core.records import dataclass
from cgroup_preflight.golang.goquote import quote


@dataclass(frozen=True, slots=True, kw_only=True)
class Module:
    """One module of a build; `sum` is its go.sum checksum, `replace` what a replace directive put there."""

    path: str
    version: str
    sum: str = ""
    replace: "Module | None" = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildInfo:
    """What Go recorded in a program. `path` is the main package, empty if built without modules.

    `main` is None where no module was named. `settings` are (key, value) in the order of the file; a key can
    come twice.
    """

    go_version: str
    path: str = ""
    main: Module | None = None
    deps: tuple[Module, ...] = ()
    settings: tuple[tuple[str, str], ...] = ()

    def setting(self, key: str) -> str | None:
        """The value of the last setting with this key, e.g. "GOARCH"; None if there is none."""
        return dict(self.settings).get(key)

    def render(self, file: str) -> str:
        """The text of `go version -m FILE`, with the final newline.

        To get the very same bytes, encode it as UTF-8 with `surrogateescape`.
        """
        body = "".join(self._lines())
        head = f"{file}: {self.go_version}\n"
        return head + "\t" + body[:-1].replace("\n", "\n\t") + "\n" if body else head

    def _lines(self) -> Iterator[str]:
        if self.path:
            yield f"path\t{self.path}\n"
        if self.main is not None:
            yield _module_text("mod", self.main)
        for dep in self.deps:
            yield _module_text("dep", dep)
        for key, value in self.settings:
            shown_key = quote(key) if not key or _needs_quotes(key) or "=" in key else key
            yield f"build\t{shown_key}={quote(value) if _needs_quotes(value) else value}\n"


def _module_text(word: str, module: Module) -> str:
    head = f"{word}\t{module.path}\t{module.version}"
    if module.replace is None:
        return f"{head}\t{module.sum}\n"
    return f"{head}\n{_module_text('=>', module.replace)}\n"  # Go, too, leaves an empty line here


def _needs_quotes(text: str) -> bool:
    return any(char in text for char in ' \t\r\n"`')
