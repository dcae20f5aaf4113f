"""Writes docs/reference from the catalogue: `python -m ci.make_reference [--check]`."""

import sys
from pathlib import Path

from cgroup_preflight.reference import index, known_codes, markdown

FOLDER = Path(__file__).resolve().parents[1] / "docs" / "reference"


def pages() -> dict[str, str]:
    """Every page by its file name."""
    return {"README.md": index(), **{f"{code}.md": markdown(code) for code in known_codes()}}


def stale(folder: Path) -> list[str]:
    """Names of pages in `folder` that are not as generated, missing ones and those of no code included."""
    wanted = pages()
    there = {path.name: path.read_text(encoding="utf-8") for path in folder.glob("*.md")}
    codes = {name for name in there if name.startswith("CGP")}
    return sorted(name for name in {*wanted, *codes} if there.get(name) != wanted.get(name))


def main(words: list[str]) -> int:
    """Writes the pages, or with --check says which are not as generated."""
    if words not in ([], ["--check"]):
        sys.stderr.write("usage: python -m ci.make_reference [--check]\n")
        return 2
    if words:
        for name in stale(FOLDER):
            sys.stdout.write(f"docs/reference/{name} is not as generated: run python -m ci.make_reference\n")
        return 1 if stale(FOLDER) else 0
    FOLDER.mkdir(parents=True, exist_ok=True)
    for path in FOLDER.glob("CGP*.md"):
        path.unlink()
    for name, text in pages().items():
        (FOLDER / name).write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
