"""Draw the rooms of the package from the layered import contract: `python -m ci.draw_architecture [--check]`.

Writes docs/architecture.svg, and the parts of docs/architecture.md between the `drawn:` comments. The layers come from
pyproject.toml, the sentence about each room from the docstring of its package: neither is written a second time.
"""

import ast
import html
import re
import sys
import textwrap
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path

TOP = Path(__file__).resolve().parents[1]
PAGE, PICTURE = TOP / "docs" / "architecture.md", TOP / "docs" / "architecture.svg"

Layers = tuple[tuple[str, ...], ...]

_COLUMNS = 76
_WIDTH, _MARGIN, _HEAD, _GAP = 1000, 70, 84, 14
_FILLS = ("#dbeafe", "#e0e7ff", "#ede9fe", "#fae8ff", "#ffedd5", "#fef3c7", "#dcfce7")
_INK, _GREY, _LINE = "#18181b", "#52525b", "#71717a"


def contracts(pyproject: str) -> tuple[Layers, tuple[str, ...]]:
    """The layers, top first, each with its rooms; and the names of the other contracts.

    Raises:
        ValueError: there is no layered contract, or a layer whose rooms may import each other.

    """
    listed = tomllib.loads(pyproject)["tool"]["importlinter"]["contracts"]
    layered = [item for item in listed if item["type"] == "layers"]
    if len(layered) != 1 or any(":" in line for line in layered[0]["layers"]):
        raise ValueError("pyproject.toml needs exactly one contract of type layers, with rooms divided by |")
    layers = tuple(tuple(room.strip() for room in line.split("|")) for line in layered[0]["layers"])
    return layers, tuple(item["name"] for item in listed if item["type"] != "layers")


def sentences(source: Path, layers: Layers) -> dict[str, str]:
    """The first sentence of each room's docstring, by the name of the room."""
    found = {}
    for room in (room for layer in layers for room in layer):
        text = ast.get_docstring(ast.parse((source / room / "__init__.py").read_text("utf-8"))) or ""
        found[room] = re.split(r"(?<=\.)\s", text.replace("\n", " ") + " ", maxsplit=1)[0]
    return found


def diagram(layers: Layers) -> str:
    """The layers as text, top first, all lines equally long."""
    lines = []
    above: set[int] = {0, _COLUMNS}
    for layer in layers:
        ends = {round(_COLUMNS * number / len(layer)) for number in range(len(layer) + 1)}
        lines += [_rule(above | ends), _row(layer)]
        above = ends
    return "\n".join([*lines, _rule(above)])


def _rule(corners: set[int]) -> str:
    return "".join("+" if column in corners else "-" for column in range(_COLUMNS + 1))


def _row(layer: Sequence[str]) -> str:
    ends = [round(_COLUMNS * number / len(layer)) for number in range(len(layer) + 1)]
    cells = [room.center(end - start - 1) for room, start, end in zip(layer, ends, ends[1:], strict=False)]
    return f"|{'|'.join(cells)}|"


def table(layers: Layers, about: Mapping[str, str]) -> str:
    """The rooms with their sentences, as a Markdown table, top layer first."""
    rows = [f"| `{room}` | {about[room].replace('|', chr(92) + '|')} |" for layer in layers for room in layer]
    return "\n".join(["| room | what it does |", "|---|---|", *rows])


def picture(layers: Layers, others: Sequence[str], about: Mapping[str, str]) -> str:
    """The layers as SVG text: a box for each room, with its sentence."""
    boxes: list[str] = []
    top = _HEAD
    for number, layer in enumerate(layers):
        width = (_WIDTH - 2 * _MARGIN - _GAP * (len(layer) - 1)) // len(layer)
        texts = {room: textwrap.wrap(_plain(about[room]), (width - 28) // 7) for room in layer}
        height = 44 + 17 * max(len(lines) for lines in texts.values())
        for column, (room, lines) in enumerate(texts.items()):
            left = _MARGIN + column * (width + _GAP)
            boxes += _box(left, top, width, height, _FILLS[number % len(_FILLS)], room, lines)
        top += height + _GAP
    notes = [f"Also checked: {'; '.join(name[0].lower() + name[1:] for name in others)}."] if others else []
    height = top + 12 + 20 * len(notes)
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" font-family="sans-serif" role="img">',
            "<title>The rooms of cgroup-preflight, in layers</title>",
            f'<rect width="{_WIDTH}" height="{height}" fill="#ffffff"/>',
            _text(_MARGIN, 36, "The rooms of cgroup-preflight", size=20, weight=600),
            _text(_MARGIN, 62, "A room imports only rooms below it, and never one of its own layer.", size=14),
            *_arrow(_MARGIN // 2, _HEAD, top - _GAP),
            *boxes,
            *(_text(_MARGIN, top + 14, note, size=13, colour=_GREY) for note in notes),
            "</svg>",
            "",
        ]
    )


def _plain(text: str) -> str:
    return text.replace("`", "")


def _box(left: int, top: int, width: int, height: int, fill: str, room: str, lines: Sequence[str]) -> list[str]:
    return [
        f'<rect x="{left}" y="{top}" width="{width}" height="{height}" rx="6" fill="{fill}" stroke="{_LINE}"/>',
        _text(left + 14, top + 25, room, size=16, weight=600),
        *(_text(left + 14, top + 46 + 17 * number, line, size=13) for number, line in enumerate(lines)),
    ]


def _arrow(x: int, top: int, bottom: int) -> list[str]:
    middle = (top + bottom) // 2
    turned = f'text-anchor="middle" transform="rotate(-90 {x - 8} {middle})"'
    return [
        f'<path d="M{x} {top}V{bottom - 10}" stroke="{_LINE}" stroke-width="2" fill="none"/>',
        f'<path d="M{x - 6} {bottom - 12}L{x} {bottom}L{x + 6} {bottom - 12}Z" fill="{_LINE}"/>',
        f'<text x="{x - 8}" y="{middle}" font-size="13" fill="{_GREY}" {turned}>imports</text>',
    ]


def _text(x: int, y: int, words: str, *, size: int, colour: str = _INK, weight: int = 400) -> str:
    return (
        f'<text x="{x}" y="{y}" font-size="{size}" font-weight="{weight}" fill="{colour}">{html.escape(words)}</text>'
    )


def filled(page: str, parts: Mapping[str, str]) -> str:
    """`page` with each part between its two comments, `<!-- drawn: NAME -->` and `<!-- end of NAME -->`.

    Raises:
        ValueError: the page does not have the two comments of a part.

    """
    for name, text in parts.items():
        begin, end = f"<!-- drawn: {name} -->\n", f"<!-- end of {name} -->"
        if page.count(begin) != 1 or page.count(end) != 1:
            raise ValueError(f"the page needs one {begin.strip()} and one {end}")
        head, _, rest = page.partition(begin)
        page = f"{head}{begin}\n{text}\n\n{end}{rest.partition(end)[2]}"
    return page


def drawn() -> dict[Path, str]:
    """The text that each of the two files should have."""
    layers, others = contracts((TOP / "pyproject.toml").read_text("utf-8"))
    about = sentences(TOP / "src" / "cgroup_preflight", layers)
    parts = {"layers": f"```text\n{diagram(layers)}\n```", "rooms": table(layers, about)}
    return {PAGE: filled(PAGE.read_text("utf-8"), parts), PICTURE: picture(layers, others, about)}


def main(words: Sequence[str]) -> int:
    """Write both files, or with --check name those that differ; exit status 0, 1 where some differ, 2 for a wrong call."""
    if list(words) not in ([], ["--check"]):
        sys.stderr.write("usage: python -m ci.draw_architecture [--check]\n")
        return 2
    for path, text in drawn().items():
        if not words:
            path.write_text(text, "utf-8")
        elif not path.exists() or path.read_text("utf-8") != text:
            sys.stdout.write(f"docs/{path.name} is out of date: run python -m ci.draw_architecture\n")
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
