"""The structure holds: no import cycle at run time, budgets of size, every public name documented."""

import ast
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "src" / "cgroup_preflight"
MODULES = {
    ".".join(path.relative_to(SOURCE.parent).with_suffix("").parts).removesuffix(".__init__"): path
    for path in SOURCE.rglob("*.py")
}


def _imports(path: Path) -> set[str]:
    """Modules of ours that `path` imports when it is loaded: not those inside functions."""
    found: set[str] = set()
    todo: list[ast.stmt] = list(ast.parse(path.read_text()).body)
    for node in todo:
        if isinstance(node, ast.If | ast.Try):
            todo.extend(node.body)
        elif isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.update({node.module, *(f"{node.module}.{alias.name}" for alias in node.names)})
    return {name for name in found if name in MODULES}


def test_no_run_time_import_cycle() -> None:
    graph = {name: _imports(path) - {name} for name, path in MODULES.items()}
    done: set[str] = set()
    while ready := [name for name in graph if name not in done and graph[name] <= done]:
        done.update(ready)
    assert sorted(set(graph) - done) == []


@pytest.mark.parametrize("name", sorted(MODULES))
def test_size_and_docstrings(name: str) -> None:
    text = MODULES[name].read_text()
    tree = ast.parse(text)
    assert len(text.splitlines()) <= 400
    if text.strip():
        assert ast.get_docstring(tree), f"{name} says nothing of itself"
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            if not isinstance(node, ast.ClassDef):
                assert length <= 60, f"{name}.{node.name} has {length} lines"
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            assert ast.get_docstring(node), f"{name}.{node.name} is public and undocumented"
