"""GitHub's own API description, cut to what this tool asks for and kept in a cache folder; never committed.

It comes from the npm package @octokit/openapi (MIT), whose file for all of GitHub has 13 MB.
"""

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

from tests.contract.description import cut

VERSION = "23.0.2"
#: The cloud's, and the oldest server's that the package has.
EDITIONS = ("api.github.com", "ghes-3.17")
OPERATIONS = (
    "checks/create",
    "checks/update",
    "checks/list-for-ref",
    "issues/list-comments",
    "issues/create-comment",
    "issues/update-comment",
    "issues/delete-comment",
    "pulls/get",
    "pulls/list",
    "users/get-authenticated",
)


def cache() -> Path:
    root = (
        os.environ.get("CGPF_CLIENTS_CACHE")
        or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "cgroup-preflight"
    )
    return Path(root) / "clients"


def description(edition: str) -> dict[str, Any]:
    """The cut description; made from the npm package the first time, which takes a minute."""
    kept = cache() / f"octokit-openapi-{VERSION}" / f"{edition}.json"
    if not kept.is_file():
        package = _package()
        whole = json.loads((package / "generated" / f"{edition}.json").read_text("utf-8"))
        kept.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(package / "LICENSE", kept.parent / "LICENSE")
        beside = kept.with_suffix(f".{os.getpid()}.tmp")
        beside.write_text(json.dumps(cut(whole, OPERATIONS)), "utf-8")
        beside.replace(kept)
    loaded: dict[str, Any] = json.loads(kept.read_text("utf-8"))
    return loaded


def _package() -> Path:
    folder = cache() / "npm"
    package = folder / "node_modules" / "@octokit" / "openapi"
    if not (package / "package.json").is_file():
        folder.mkdir(parents=True, exist_ok=True)
        subprocess.run(
            [
                "npm",
                "install",
                "--no-audit",
                "--no-fund",
                "--ignore-scripts",
                "--prefix",
                str(folder),
                f"@octokit/openapi@{VERSION}",
            ],
            check=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
    return package
