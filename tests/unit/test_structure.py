"""The structure is as docs/architecture.md says: no import cycle at run time, pure rooms, sizes, documented names."""

import ast
import statistics
from collections.abc import Iterator
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


def _everywhere(path: Path) -> Iterator[str]:
    """The top names of all modules that `path` imports, also inside functions."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module.partition(".")[0]


def _users(*modules: str) -> set[str]:
    """The rooms that import one of these modules."""
    return {name.split(".")[1] for name, path in MODULES.items() if set(_everywhere(path)) & set(modules)}


def test_only_some_rooms_touch_the_machine_and_the_network() -> None:
    assert _users("subprocess") <= {"host", "engines", "smoke", "guest", "up"}
    assert _users("requests", "github", "gitlab") == {"publish"}
    assert not _users("socket", "signal", "select", "tempfile", "shutil") & {"core", "plan", "report", "checks"}


@pytest.mark.parametrize("room", ["core", "plan", "report", "checks"])
def test_pure_rooms_open_no_file(room: str) -> None:
    for path in (SOURCE / room).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                assert ast.unparse(node.func).rpartition(".")[2] not in ("open", "read_text", "write_text"), path.name


#: What judges and tests machines, and has to do so for any of them.
BEHIND_A_DOOR = ("checks", "smoke", "metrics", "rollout", "host.gather", "host.facts", "host.record")
#: The sides of the door that are this machine.
SIDES = {"LiveFs", "LiveRunner", "LiveDoor", "LocalFiles", "LocalProcesses", "LocalClock", "LocalManager", "local_door"}
#: Words of `os` that ask nothing of a machine.
HARMLESS = {"path", "strerror", "fspath", "fsencode", "fsdecode"}
#: Modules that use this machine all the same, and for what; docs/architecture.md says more.
USES_THIS_MACHINE = {
    "smoke.apart": "runs this command for each of several hosts",
    "smoke.elsewhere": "reads the files of the project that go to another machine",
    "smoke.payloads": "reads the pipes of programs that the door started",
    "smoke.run": "makes the door to this machine where none is handed in",
    "metrics.door": "its own door to this machine, whose files stay open",
    "metrics.moment": "makes that door",
    "metrics.setup": "makes that door",
    "metrics.watch": "inotify, for the exporter that serves",
    "metrics.join": "go tool trace",
    "metrics.traces": "traces of Go programs, and go tool trace",
    "metrics.recording": "reads a recording",
    "metrics.rules_files": "writes the rules",
    "metrics.live_table": "the terminal",
    "rollout.journal": "the journal",
    "rollout.session": "the folder and the lock of journals, and the clock of who watches",
    "rollout.recorded": "a clock for a reader that never waits",
    "rollout.remote": "hooks run where the journal is",
    "rollout.watch": "makes the door of metrics",
}


def _uses_this_machine(path: Path) -> bool:
    words = set[str]()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Name) and node.id in SIDES:
            return True
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("open", "io.open"):
            return True
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "os":
            words.add(node.attr)
    return any(word not in HARMLESS and not word.startswith("O_") for word in words)


def test_who_judges_machines_sees_only_their_door() -> None:
    judging = {
        name.removeprefix("cgroup_preflight."): path
        for name, path in MODULES.items()
        if f"{name}.".startswith(tuple(f"cgroup_preflight.{room}." for room in BEHIND_A_DOOR))
    }
    assert {name for name, path in judging.items() if _uses_this_machine(path)} == set(USES_THIS_MACHINE)


def test_sizes_of_all_modules_and_functions_together() -> None:
    trees = [ast.parse(path.read_text()) for path in MODULES.values()]
    functions = [
        (node.end_lineno or node.lineno) - node.lineno + 1
        for tree in trees
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    assert statistics.median(len(path.read_text().splitlines()) for path in MODULES.values()) <= 110
    assert statistics.quantiles(functions, n=10)[-1] <= 20


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
