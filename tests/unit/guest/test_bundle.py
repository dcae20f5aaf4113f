"""The modules of a package in one file: real modules, which a real Python compiles and takes from there."""

import compileall
import subprocess
import sys
from pathlib import Path

import pytest

from cgroup_preflight.guest.inside import bundle

_USE = """
import sys
from cgroup_preflight.guest.inside import bundle
bundle.use(sys.argv[1:], "shop")
import shop.parts.wheel, shop
print(shop.parts.wheel.NAME, shop.parts.wheel.__file__, shop.__path__, shop.parts.__package__)
try:
    import shop.gone
except ImportError as error:
    print(error)
try:
    shop.parts.wheel.turn()
except ZeroDivisionError as error:
    print(error.__traceback__.tb_next.tb_frame.f_code.co_name)
"""

pytestmark = pytest.mark.starts_processes


def compiled(folder: Path) -> Path:
    """A package of compiled modules alone, in `folder`."""
    files = {
        "__init__.py": "", "parts/__init__.py": "from shop.parts import late",
        "parts/wheel.py": "NAME = __name__\ndef turn(): return 1 / 0\n", "parts/late.py": "", "unused.py": "1 / 0",
    }  # fmt: skip
    for name, text in files.items():
        path = folder / "shop" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    assert compileall.compile_dir(folder, quiet=2, legacy=True)
    for path in folder.rglob("*.py"):
        path.unlink()
    return folder / "shop"


def used(*folders: Path) -> list[str]:
    argv = (sys.executable, "-c", _USE, *map(str, folders))
    return subprocess.run(argv, capture_output=True, text=True, timeout=60, check=True).stdout.splitlines()


def test_modules_come_from_the_file_and_are_as_from_the_folder(tmp_path: Path) -> None:
    package = compiled(tmp_path)
    bundle.pack(package)
    for path in package.rglob("*.pyc"):
        path.unlink()
    assert used(tmp_path / "other", tmp_path) == [
        f"shop.parts.wheel {package}/parts/wheel.pyc ['{package}'] shop.parts", "No module named 'shop.gone'", "turn",
    ]  # fmt: skip


def test_without_the_file_the_folder_is_used(tmp_path: Path) -> None:
    compiled(tmp_path)
    bundle.use([str(tmp_path)], "shop")
    assert not any(type(finder).__module__ == bundle.__name__ for finder in sys.meta_path)
