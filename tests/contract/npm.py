"""Packages of npm that the tests use, each in a folder of its own below a cache; nothing of them is committed."""

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path


def cache() -> Path:
    """CGPF_CLIENTS_CACHE, or this project's part of the user's cache."""
    root = (
        os.environ.get("CGPF_CLIENTS_CACHE")
        or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "cgroup-preflight"
    )
    return Path(root) / "clients"


def install(folder: Path, name: str, version: str, stand_ins: Mapping[str, str] | None = None) -> None:
    """`name` in exactly `version` into `folder`/node_modules; no script of any package is run.

    `stand_ins` replaces packages below it by one line of JavaScript each. All or nothing: an install that was broken
    off leaves no folder behind.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        project = {"private": True, "dependencies": {name: version}, "overrides": {}}
        for other, text in (stand_ins or {}).items():
            (fresh / "stand-ins" / other).mkdir(parents=True)
            (fresh / "stand-ins" / other / "index.js").write_text(text)
            (fresh / "stand-ins" / other / "package.json").write_text(json.dumps({"name": other, "version": "0.0.0"}))
            project["dependencies"] |= {other: f"file:./stand-ins/{other}"}  # type: ignore[operator]
            project["overrides"] |= {other: f"${other}"}  # type: ignore[operator]
        (fresh / "package.json").write_text(json.dumps(project))
        argv = ["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", "--install-links", "--loglevel=error"]
        subprocess.run(argv, cwd=fresh, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        if not folder.exists():
            fresh.rename(folder)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
