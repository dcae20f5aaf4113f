"""Generates TOML documents together with the line of every key in them, as the reference for `locate`."""

from dataclasses import dataclass, field

from hypothesis import strategies as st

Path = tuple[str, ...]


@dataclass
class Document:
    """Lines of TOML; `first` has the line, from 1, where each path is mentioned first."""

    lines: list[str] = field(default_factory=list)
    first: dict[Path, int] = field(default_factory=dict)

    def add(self, text: str, path: Path = ()) -> None:
        """Adds a statement of one or more lines that mentions `path` and every path above it."""
        for end in range(1, len(path) + 1):
            self.first.setdefault(path[:end], len(self.lines) + 1)
        self.lines.extend(text.split("\n"))

    @property
    def text(self) -> str:
        return "\n".join(self.lines)


_BLANK = st.sampled_from(["", "", " ", "  ", "\t"])
_NOISE = st.text(alphabet="ab=#[]{}'\\\".,\t é\u2028\x85", max_size=6)


def _spelled(draw, name: str) -> tuple[str, str]:
    """A key that is unique by `name`: how TOML writes it, and what it is."""
    style = draw(st.sampled_from(["bare", "basic", "literal", "escaped"]))
    noise = draw(_NOISE)
    if style == "bare":
        return name, name
    if style == "literal":
        noise = noise.replace("'", "")
        return f"'{noise}{name}'", noise + name
    if style == "escaped":
        return f'"{name}\\u003d\\t\\"{name}"', f'{name}=\t"{name}'
    quoted = noise.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{quoted}{name}"', noise + name


def _dotted(draw, names: list[str]) -> tuple[str, Path]:
    parts = [_spelled(draw, name) for name in names]
    dot = draw(_BLANK) + "." + draw(_BLANK)
    return dot.join(text for text, _ in parts), tuple(key for _, key in parts)


VALUES = st.sampled_from(
    [
        "1",
        "0x1f",
        "1.5e3",
        "true",
        "1979-05-27T07:32:00Z",
        "07:32:00",
        '"a = b"',
        '"# [x] {y}"',
        "'[a]\\'",
        '"\\"] = \\\\"',
        '""',
        "''",
        "[]",
        "{}",
        "[1, 2, # three\n 3,\n]",
        '[\n  "]",\n  \'[\', # ]\n  """\n]\n""",\n]',
        '"""\nkey = 1\n[table]\n"""',
        "'''\n# no comment = 1\n'''",
        '"""a""""',
        "'''a''''",
        '""""quoted""""',
        '"""\\"""\\\nx = 1"""',
        '"""\n\n\n"""',
        "[[1, 2],\n\n [3, [4\n]]]",
        '{ inner = 1, "in.ner" = "=" }',
        '{ a = [\n1,\n# x = 2\n2\n], b.c = "}" }',
        '["a", # "\n"b"]',
        '[ { x = 1 },\n  { x = "{" } ]',
    ]
)
COMMENTS = st.sampled_from(["", "", "", " # plain", " # key = 'x' [a] \"", " #", "\t# '''"])


@st.composite
def documents(draw) -> Document:
    """A valid document: tables, nested tables, arrays of tables, dotted and quoted keys, every kind of value."""
    document = Document()
    prefix: Path = ()
    tables: list[Path] = []
    arrays: list[tuple[str, Path]] = []
    for counter in range(draw(st.integers(1, 12))):
        kind = draw(
            st.sampled_from(["key", "key", "key", "dotted", "table", "below", "array", "again", "blank", "comment"])
        )
        indent = draw(_BLANK)
        if kind in ("key", "dotted"):
            names = [f"k{counter}"] if kind == "key" else [f"d{counter}", "m", "x"][: draw(st.integers(2, 3))]
            text, path = _dotted(draw, names)
            value, around = draw(VALUES), draw(_BLANK)
            document.add(f"{indent}{text}{around}={around}{value}{draw(COMMENTS)}", prefix + path)
        elif kind == "again" and arrays:
            text, prefix = draw(st.sampled_from(arrays))
            document.add(f"[[{text}]]{draw(COMMENTS)}", prefix)
        elif kind in ("table", "array", "again"):
            text, prefix = _dotted(draw, [f"t{counter}", "u", "v"][: draw(st.integers(1, 3))])
            around = draw(_BLANK)
            if kind == "table":
                tables.append(prefix)
                document.add(f"{indent}[{around}{text}{around}]{draw(COMMENTS)}", prefix)
            else:
                arrays.append((text, prefix))
                document.add(f"{indent}[[{around}{text}{around}]]{draw(COMMENTS)}", prefix)
        elif kind == "below" and tables and all(part.isascii() and part.isalnum() for part in tables[-1]):
            prefix = (*tables[-1], f"b{counter}")
            document.add(f"[{'.'.join(prefix)}]{draw(COMMENTS)}", prefix)
        elif kind == "comment":
            document.add(indent + draw(st.sampled_from(["# x = 1", "# [table]", "#'''", '# """', "#["])))
        else:
            document.add(indent)
    if draw(st.booleans()):
        document.add("")
    return document
