"""GitHub's own API description, cut to what this tool asks for and kept in a cache folder; never committed.

It comes from the npm package @octokit/openapi (MIT), whose file for all of GitHub has 13 MB.
"""

import hashlib
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

from tests.contract.description import cut
from tests.contract.npm import cache, install

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
    "git/get-commit",
    "pulls/get",
    "pulls/list",
    "users/get-authenticated",
)


def description(edition: str) -> dict[str, Any]:
    """The cut description; made from the npm package the first time, which takes half a minute."""
    digest = hashlib.sha256(" ".join(OPERATIONS).encode()).hexdigest()[:8]
    folder = cache() / f"octokit-openapi-{VERSION}-{digest}"
    if not folder.is_dir():
        _make(folder)
    loaded: dict[str, Any] = json.loads((folder / f"{edition}.json").read_text("utf-8"))
    return loaded


def _make(folder: Path) -> None:
    """The editions and the licence; the package itself, 385 MB of them, does not stay."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as fresh:
        install(Path(fresh) / "npm", "@octokit/openapi", VERSION)
        package = Path(fresh) / "npm" / "node_modules" / "@octokit" / "openapi"
        made = Path(fresh) / "made"
        made.mkdir()
        shutil.copy(package / "LICENSE", made)
        for edition in EDITIONS:
            whole = json.loads((package / "generated" / f"{edition}.json").read_text("utf-8"))
            (made / f"{edition}.json").write_text(json.dumps(cut(whole, OPERATIONS)), "utf-8")
        if not folder.exists():
            made.rename(folder)
