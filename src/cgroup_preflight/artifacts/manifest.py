"""The manifest that travels in the artifact: which plan, which files, which tested programs. Pure."""

import json

from cgroup_preflight import __version__
from cgroup_preflight.core.records import dataclass

SCHEMA_VERSION = 1
TOOL = "cgroup-preflight"
#: The verdict of a plan that was injected without a run.
UNTESTED = "untested"


@dataclass(frozen=True, slots=True, kw_only=True)
class ManifestBinary:
    """A program: where it is in the artifact (None: nowhere) and the hash of the one that was tested (None: none)."""

    service: str
    path: str | None
    sha256: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """All that a manifest states; hashes are SHA-256 in hexadecimal, `files` (path, hash) are sorted."""

    project: str
    config_sha256: str
    layout: str
    prefix: str
    files: tuple[tuple[str, str], ...]
    binaries: tuple[ManifestBinary, ...]
    verdict: str
    tool_version: str = __version__


def dump(item: Manifest) -> bytes:
    """JSON, indented, keys in a fixed order, no time in it: the same plan gives the same bytes."""
    document = {
        "schema_version": SCHEMA_VERSION,
        "tool": {"name": TOOL, "version": item.tool_version},
        "project": item.project,
        "config_sha256": item.config_sha256,
        "layout": item.layout,
        "prefix": item.prefix,
        "files": [{"path": path, "sha256": digest} for path, digest in item.files],
        "binaries": [
            {"service": binary.service, "path": binary.path, "sha256": binary.sha256} for binary in item.binaries
        ],
        "verdict": item.verdict,
    }
    return (json.dumps(document, indent=2, ensure_ascii=True) + "\n").encode()


def parse(data: bytes | None) -> Manifest | None:
    """The manifest in `data`, or None where it is none of ours: an artifact may contain anything."""
    try:
        raw = json.loads(data or b"")
        if raw["schema_version"] != SCHEMA_VERSION or raw["tool"]["name"] != TOOL:
            return None
        item = Manifest(
            project=_text(raw["project"]),
            config_sha256=_text(raw["config_sha256"]),
            layout=_text(raw["layout"]),
            prefix=_text(raw["prefix"]),
            files=tuple((_text(file["path"]), _text(file["sha256"])) for file in raw["files"]),
            binaries=tuple(_binary(binary) for binary in raw["binaries"]),
            verdict=_text(raw["verdict"]),
            tool_version=_text(raw["tool"]["version"]),
        )
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return item


def _binary(raw: dict[str, object]) -> ManifestBinary:
    path, digest = raw["path"], raw["sha256"]
    return ManifestBinary(
        service=_text(raw["service"]),
        path=None if path is None else _text(path),
        sha256=None if digest is None else _text(digest),
    )


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(value)
    return value
