"""All modules of this tool in one file: Python asks the disk for a hundred and fifty files else, one after the other.

The file begins with a number of eight characters, the size of the JSON after it, which has by the name of each module
whether it is a package, where its code is after that, and its size. The host makes it of the compiled modules (`guest.bytecode`).
"""

import json
import marshal
import os
import sys
from collections.abc import Iterable
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

#: The file, in the folder of the package.
NAME = "modules"
#: What a compiled module has before its code (Python, PEP 552).
_HEADER = 16
_SIZE = 8


def pack(package: Path) -> None:
    """Makes the file of a folder with compiled modules, whose name is that of the package. Raises OSError."""
    index: dict[str, tuple[bool, int, int]] = {}
    codes: list[bytes] = []
    size = 0
    for path in sorted(package.rglob("*.pyc")):
        parts = (package.name, *path.relative_to(package).with_suffix("").parts)
        is_package = parts[-1] == "__init__"
        code = path.read_bytes()[_HEADER:]
        index[".".join(parts[:-1] if is_package else parts)] = (is_package, size, len(code))
        codes.append(code)
        size += len(code)
    text = json.dumps(index).encode()
    (package / NAME).write_bytes(b"".join((b"%*d" % (_SIZE, len(text)), text, *codes)))


def use(folders: Iterable[str], package: str) -> None:
    """From now on Python takes the modules of a package from such a file, where one of `folders` has it."""
    for folder in folders:
        place = os.path.join(folder, package)
        if os.path.exists(os.path.join(place, NAME)):
            sys.meta_path.insert(0, _Bundle(folder, os.path.join(place, NAME)))
            return


class _Bundle:
    """A finder and a loader for `sys.meta_path`."""

    def __init__(self, folder: str, path: str) -> None:
        self._folder = folder
        # It stays open: a run needs half of the modules, some of them late.
        self._file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        size = int(os.pread(self._file, _SIZE, 0))
        self._begin = _SIZE + size
        self._index: dict[str, tuple[bool, int, int]] = json.loads(os.pread(self._file, size, _SIZE))

    def find_spec(self, name: str, _path: object = None, _target: object = None) -> ModuleSpec | None:
        """As importlib.abc.MetaPathFinder."""
        if name not in self._index:
            return None
        home = os.path.join(self._folder, *name.split("."))
        spec = ModuleSpec(name, self, is_package=self._index[name][0])  # type: ignore[arg-type]
        spec.origin, spec.has_location = f"{home}.pyc", True
        if spec.submodule_search_locations is not None:
            spec.origin, spec.submodule_search_locations = f"{home}/__init__.pyc", [home]
        return spec

    def create_module(self, _spec: ModuleSpec) -> None:
        """As importlib.abc.Loader: an ordinary module."""

    def exec_module(self, module: ModuleType) -> None:
        """As importlib.abc.Loader."""
        _, at, size = self._index[module.__name__]
        exec(marshal.loads(os.pread(self._file, size, self._begin + at)), module.__dict__)  # noqa: S102, S302
