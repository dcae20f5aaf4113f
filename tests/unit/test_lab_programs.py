"""Programs that the lab's tests hand to guests are texts, which no type check reads: what they import has to exist."""

import ast
import importlib
from collections.abc import Iterator
from pathlib import Path

import pytest

_TESTS = Path(__file__).parents[1]


def _texts(path: Path) -> Iterator[str]:
    """All string constants of a file; the fixed parts of f-strings, too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def _imports(text: str) -> list[tuple[str, str]]:
    """(module, name) of each line `from cgroup_preflight... import name, ...`, also within `python -c` of a shell."""
    found = []
    for line in text.splitlines():
        _, start, rest = line.partition("from cgroup_preflight")
        module, word, names = rest.partition(" import ")
        if start and word and all(part.isidentifier() or not part for part in module.split(".")):
            code = names.partition(";")[0].strip()
            found += [("cgroup_preflight" + module, name.split()[0]) for name in code.split(",") if name.split()]
    return found


def test_lines_of_imports_are_found() -> None:
    assert _imports("import os\nfrom cgroup_preflight.cli import main, command as it; main()\nfrom os import path\n") == [
        ("cgroup_preflight.cli", "main"), ("cgroup_preflight.cli", "command"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "path", sorted(_TESTS.glob("lab/**/*.py")), ids=lambda path: str(path.relative_to(_TESTS))
)  # fmt: skip
def test_what_programs_import_exists(path: Path) -> None:
    missing = []
    for text in _texts(path):
        for module, name in _imports(text):
            if not hasattr(importlib.import_module(module), name):
                try:
                    importlib.import_module(f"{module}.{name}")
                except ModuleNotFoundError:
                    missing.append((module, name))
    assert missing == []
