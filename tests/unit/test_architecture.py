"""docs/architecture.md says what is: drawn from the contract, names that can be imported, files that exist."""

import importlib
import os
import re
import shutil
import subprocess
import sys
import tomllib
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from ci import draw_architecture

TOP = Path(__file__).parents[2]
PACKAGE = TOP / "src" / "cgroup_preflight"
PYPROJECT = (TOP / "pyproject.toml").read_text()
CONTRACTS = tomllib.loads(PYPROJECT)["tool"]["importlinter"]["contracts"]
LAYERS, OTHERS = draw_architecture.contracts(PYPROJECT)
ROOMS = [room for layer in LAYERS for room in layer]
PAGE = (TOP / "docs" / "architecture.md").read_text()
CODE = sorted(set(re.findall(r"`([^`\n]+)`", PAGE)))
NAMES = [word for word in CODE if re.fullmatch(rf"({'|'.join(ROOMS)})(\.\w+)+", word)]
PATHS = [
    word
    for word in CODE
    if re.fullmatch(r"[\w.-]+(/[\w.-]+)+|[\w.-]+\.(md|yml|toml)", word) and word != "cgroup-preflight.toml"
]

#: One line for each way to break a contract: the module that gets it, and the import.
BREAKS = {
    "smoke.elsewhere": "cgroup_preflight.host.local",
    "host.fs": "cgroup_preflight.cli",
    "smoke.run": "cgroup_preflight.guest.run",
    "checks.runner": "cgroup_preflight.host.fs",
    "report.text": "cgroup_preflight.core.verdict",
}


def test_page_and_picture_are_as_drawn() -> None:
    for path, text in draw_architecture.drawn().items():
        assert path.read_text("utf-8") == text, "run python -m ci.draw_architecture"


def test_picture_is_xml_with_every_room() -> None:
    texts = [node.text for node in ET.fromstring(draw_architecture.PICTURE.read_text("utf-8")).iter() if node.text]
    assert set(ROOMS) <= set(texts)


def test_rooms_are_the_packages() -> None:
    assert sorted(ROOMS) == sorted(path.parent.name for path in PACKAGE.glob("*/__init__.py"))


def test_diagram_is_one_block_of_equally_long_lines() -> None:
    lines = draw_architecture.diagram((("a",), ("b", "c", "d"), ("e", "f"))).splitlines()
    assert len({len(line) for line in lines}) == 1
    assert len(lines) == 7
    assert [line.count("|") for line in lines[1::2]] == [2, 4, 3]
    assert [line.count("+") for line in lines[0::2]] == [2, 4, 5, 3]


@pytest.mark.parametrize("layer", ["a : b", None])
def test_a_contract_that_cannot_be_drawn_is_refused(layer: str | None) -> None:
    contract = f'[[tool.importlinter.contracts]]\nname = "x"\ntype = "layers"\nlayers = ["{layer}"]\n'
    with pytest.raises(ValueError, match="exactly one contract"):
        draw_architecture.contracts(contract if layer else "[tool.importlinter]\ncontracts = []\n")


def test_a_page_without_the_comments_is_refused() -> None:
    with pytest.raises(ValueError, match="drawn: rooms"):
        draw_architecture.filled("# A page\n", {"rooms": "x"})


def test_old_drawings_are_replaced() -> None:
    page = "a\n<!-- drawn: x -->\nold\n<!-- end of x -->\nb\n"
    once = draw_architecture.filled(page, {"x": "new"})
    assert once == "a\n<!-- drawn: x -->\n\nnew\n\n<!-- end of x -->\nb\n"
    assert draw_architecture.filled(once, {"x": "new"}) == once


@pytest.mark.parametrize("name", NAMES)
def test_named_functions_can_be_imported(name: str) -> None:
    module, found = "cgroup_preflight", importlib.import_module("cgroup_preflight")
    for part in name.split("."):
        if not hasattr(found, part):
            importlib.import_module(f"{module}.{part}")
        found, module = getattr(found, part), f"{module}.{part}"


@pytest.mark.parametrize("name", PATHS)
def test_named_files_exist(name: str) -> None:
    if re.search(r"NAME|FAMILY", name):
        pattern = re.sub(r"NAME|FAMILY", "*", name)
        assert [*PACKAGE.glob(pattern), *TOP.glob(pattern)], "nothing has a name of this form"
    else:
        assert (PACKAGE / name).exists() or (TOP / name).exists()


def test_the_page_names_enough_to_be_worth_checking() -> None:
    assert len(NAMES) > 25
    assert len(PATHS) > 25


@pytest.mark.starts_processes
def test_every_import_contract_can_fail(tmp_path: Path) -> None:
    """Each contract is broken in a copy of the source: a contract that no import can break checks nothing."""
    pytest.importorskip("importlinter")
    shutil.copytree(PACKAGE, tmp_path / "src" / "cgroup_preflight", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "pyproject.toml").write_text(PYPROJECT)
    for module, imported in BREAKS.items():
        path = tmp_path / "src" / "cgroup_preflight" / f"{module.replace('.', '/')}.py"
        path.write_text(f"{path.read_text()}\nimport {imported}\n")
    lint = (
        "import sys; sys.argv[1:] = ['--no-cache']; from importlinter.cli import lint_imports_command as main; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", lint], cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(tmp_path / "src")},
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    assert [item["name"] for item in CONTRACTS if f"{item['name']} BROKEN" not in done.stdout] == []
    for module, imported in BREAKS.items():
        assert f"cgroup_preflight.{module} -> {imported} " in done.stdout
