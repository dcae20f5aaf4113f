"""Tar archives made here: the overlay of an image, and the input of a boot. Same content, same bytes.

Owner is root and times are zero throughout; the guest sees them read-only.
"""

import io
import tarfile
from collections.abc import Iterable, Mapping
from pathlib import Path

from cgroup_preflight.guest.overlay import OverlayFile

_SKIPPED = frozenset({"__pycache__", ".git", ".mypy_cache", ".ruff_cache"})


def write_overlay(files: Iterable[OverlayFile], target: Path) -> None:
    """Writes `files` as archive `target`; the reader makes their directories."""
    with tarfile.open(target, "w", format=tarfile.PAX_FORMAT) as archive:
        for file in files:
            info = tarfile.TarInfo(file.path.lstrip("/"))
            info.mode = file.mode
            if file.link:
                info.type, info.linkname = tarfile.SYMTYPE, file.link
            _add_bytes(archive, info, file.content.encode())


def write_input(inputs: Mapping[str, Path], target: Path) -> None:
    """Writes each file or folder of `inputs` under its name as archive `target`; raises OSError."""
    with tarfile.open(target, "w", format=tarfile.PAX_FORMAT) as archive:
        for name, path in sorted(inputs.items()):
            archive.add(path, arcname=name, filter=_plain)


def _add_bytes(archive: tarfile.TarFile, info: tarfile.TarInfo, content: bytes) -> None:
    info.size = 0 if info.issym() else len(content)
    archive.addfile(info, io.BytesIO(content))


def _plain(info: tarfile.TarInfo) -> tarfile.TarInfo | None:
    if _SKIPPED.intersection(Path(info.name).parts):
        return None
    info.uid = info.gid = 0
    info.uname = info.gname = ""
    info.mtime = 0
    return info
