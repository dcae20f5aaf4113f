"""The project's address, which docs, examples and code name: `python -m ci.address` checks it, `... URL` changes it.

pyproject.toml has it (`project.urls.Source`). A fork or a move to another owner is one command.
"""

import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
#: `https://HOST/OWNER/NAME`, as GitHub and GitLab have it.
_URL = re.compile(r"https://[a-z0-9.-]+/([A-Za-z0-9._/-]+/[A-Za-z0-9._-]+?)", re.ASCII)
#: Where a file names a repository of this project: what may be before it, and the owner.
_NAMED = re.compile(
    r"(?:uses: |repository: |project: |\$CI_SERVER_FQDN/|https://git[a-z.]+/)([\w.-]+)/cgroup-preflight(?![\w.-]*\.(?:txt|toml))"
)


def address(root: Path = ROOT) -> str:
    """Return the address in pyproject.toml."""
    url: str = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]["urls"]["Source"]
    return url


def path_of(url: str) -> str:
    """Return `OWNER/NAME`. Raises ValueError for something that is not such an address."""
    found = _URL.fullmatch(url)
    if found is None:
        raise ValueError(f"{url!r} is not an address such as https://github.com/OWNER/NAME")
    return found[1]


def wrong(root: Path = ROOT) -> list[str]:
    """Return the lines that name this project at another owner than pyproject.toml does."""
    owner = path_of(address(root)).rpartition("/")[0]
    return [
        f"{path.relative_to(root)}:{number}: {line.strip()}"
        for path in _files(root)
        for number, line in enumerate(_text(path).splitlines(), 1)
        if any(name != owner for name in _NAMED.findall(line))
    ]


def change(url: str, root: Path = ROOT) -> list[str]:
    """Write the new address everywhere; return the files that changed. Raises ValueError."""
    new, old_url = path_of(url), address(root)
    old = path_of(old_url)
    changed = []
    for path in _files(root):
        text = _text(path)
        made = re.sub(rf"(?<![\w.-]){re.escape(old)}(?![\w-])", new, text.replace(old_url, url))
        if made != text:
            path.write_bytes(made.encode())
            changed.append(str(path.relative_to(root)))
    return changed


def _files(root: Path) -> Iterator[Path]:
    """Yield the files that git has, without links."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=root, capture_output=True, check=True, timeout=60).stdout
    for name in listed.decode().split("\0"):
        if name and (root / name).is_file() and not (root / name).is_symlink():
            yield root / name


def _text(path: Path) -> str:
    try:
        return path.read_bytes().decode()
    except UnicodeDecodeError:
        return ""


def main(words: list[str]) -> int:
    """Check, or change to the address that is given."""
    if len(words) > 1:
        sys.stderr.write("usage: python -m ci.address [https://HOST/OWNER/NAME]\n")
        return 2
    if words:
        try:
            changed = change(words[0])
        except ValueError as error:
            sys.stderr.write(f"{error}\n")
            return 2
        sys.stdout.write("".join(f"{name}\n" for name in changed))
        return 0
    found = wrong()
    sys.stdout.write("".join(f"{line}\n" for line in found))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
