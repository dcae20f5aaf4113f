"""Walks the TOML tables by the key table and collects every mistake, each with its line."""

import re
from collections.abc import Iterable, Mapping

from cgroup_preflight.config.key import Key
from cgroup_preflight.config.keys import SECTIONS, parse_guest_path
from cgroup_preflight.config.toml_lines import Path
from cgroup_preflight.core import codes
from cgroup_preflight.core.quantities import QuantityError
from cgroup_preflight.core.records import dataclass
from cgroup_preflight.core.report import Finding, Location, Remedy, Status


@dataclass(frozen=True, slots=True, kw_only=True)
class Parsed:
    """One value: the text in systemd's spelling, the parsed value, its line."""

    text: str
    value: object
    location: Location


class Mistakes:
    """Collects the findings about one file, and knows the line of every key."""

    def __init__(self, file: str, lines: Mapping[Path, int]) -> None:
        self.file = file
        self.lines = lines
        self.findings: list[Finding] = []
        self._listed: dict[str, Path] = {}

    def at(self, path: Path) -> Location:
        """The line of the key, or of the nearest table around it."""
        for end in range(len(path), 0, -1):
            if path[:end] in self.lines:
                return Location(file=self.file, line=self.lines[path[:end]])
        return Location(file=self.file, line=1)

    def listed(self, section: str, path: Path) -> str:
        """Where the keys of a section are listed already; empty if the mistake at `path` is the first to need them."""
        first = self._listed.setdefault(section, path)
        return "" if first == path else f"the allowed keys are listed at line {self.at(first).line}"

    def has(self, path: Path) -> bool:
        """Whether a mistake below `path` is known already."""
        subject = ".".join(path)
        return any(item.subject == subject or item.subject.startswith(f"{subject}.") for item in self.findings)

    def add(self, code: codes.Code, path: Path, message: str, remedy: str) -> None:
        """Adds a mistake at `path`; `remedy` says what to write instead."""
        self.findings.append(
            code.finding(Status.FAIL, ".".join(path), message, Remedy(title=remedy), location=self.at(path))
        )  # fmt: skip


def nearest(word: str, known: Iterable[str]) -> str:
    """`did you mean X? ` for the known word that is nearest, or an empty text."""
    import difflib  # only when there is a mistake

    names = list(known)
    wanted = "".join(filter(str.isalpha, word.lower()[:_NEAREST_MAX]))
    old = _OLD_NAMES.get(wanted)
    if old in names:
        return f"did you mean {old}? "
    # Memory that a unit is guaranteed is the opposite of a limit, however near its name is.
    lower = {name.lower(): name for name in names if not ("limit" in wanted and name.endswith(("Min", "Low")))}
    match = difflib.get_close_matches(word.lower()[:_NEAREST_MAX], lower, n=1, cutoff=0.6)
    return f"did you mean {lower[match[0]]}? " if match else ""


#: Names that a reader takes in at a glance.
_SHORT_LIST = 12
_NEAREST_MAX = 200  # difflib takes the square of the length, and names come from a pull request
#: A hint that is one number with its unit, not words.
_ONE_VALUE = r"[\d.,]+ ?(%|[A-Za-z]{0,12})"
#: How often the parser is asked about its own hint.
_HINTS = 3
#: Names of cgroup v1 (systemd.resource-control(5), "Deprecated options") and of other tools, letters only.
_OLD_NAMES = {
    "memorylimit": "MemoryMax", "memlimit": "MemoryMax", "memory": "MemoryMax", "cpulimit": "CPUQuota",
    "cpushares": "CPUWeight", "startupcpushares": "CPUWeight", "blockioweight": "IOWeight", "taskslimit": "TasksMax",
    "pidslimit": "TasksMax", "swaplimit": "MemorySwapMax", "memoryswaplimit": "MemorySwapMax",
}  # fmt: skip


def read_table(section: str, path: Path, table: object, mistakes: Mistakes) -> dict[str, Parsed]:
    """The known keys of one table, parsed; `mistakes` gets what is unknown or wrong.

    `section` is a key of `SECTIONS`. A sub-table with a section of its own is the caller's business.
    """
    keys = {key.name: key for key in SECTIONS[section].keys}
    found: dict[str, Parsed] = {}
    if not isinstance(table, dict):
        mistakes.add(codes.WRONG_TYPE, path, f"{path[-1]} is {_kind(table)}, but must be a table",
                     f"write [{'.'.join(path)}] and its keys below it")  # fmt: skip
        return found
    for name, raw in table.items():
        if f"{section}.{name}" in SECTIONS:
            continue
        if name not in keys:
            unknown_key(section, (*path, name), [*keys, *_sub_tables(section)], mistakes, raw)
            continue
        parsed = _read_value(keys[name], (*path, name), raw, mistakes)
        if parsed is not None:
            found[name] = parsed
    for key in keys.values():
        if key.required and key.name not in table:
            mistakes.add(codes.MISSING_KEY, path, f"the key {key.name} is missing",
                         f"add {key.name} = ... ({key.doc})")  # fmt: skip
    return found


def _sub_tables(section: str) -> list[str]:
    prefix = f"{section}."
    return [
        name.removeprefix(prefix) for name in SECTIONS if name.startswith(prefix) and "*" not in name[len(prefix) :]
    ]


def unknown_key(section: str, path: Path, known: Iterable[str], mistakes: Mistakes, value: object = None) -> None:
    """Adds a mistake for the key at `path`, which is not in `known`; `value` is what it has in the file."""
    from cgroup_preflight.config.other_keys import instead_of, of_the_other_section  # only when there is a mistake

    where = f"[{'.'.join(path[:-1])}]" if section else "the file"
    name = path[-1]
    remedy = instead_of(section, name, value) or of_the_other_section(section, name)
    if not remedy:
        names = sorted(known)
        near = nearest(name, names)
        # The list is long, and the same for each table of the kind: one near name is more help.
        listed = (
            ""
            if near and len(names) > _SHORT_LIST
            else mistakes.listed(section, path) or f"allowed: {', '.join(names)}"
        )
        remedy = (near + listed).rstrip()
    mistakes.add(codes.UNKNOWN_KEY, path, f"{name[:80]!r} is not a key of {where}", remedy)


def _read_value(key: Key, path: Path, raw: object, mistakes: Mistakes) -> Parsed | None:
    if key.kind == "bool":
        if isinstance(raw, bool):
            return Parsed(text=str(raw).lower(), value=raw, location=mistakes.at(path))
        _wrong_type(path, raw, "true or false", mistakes)
        return None
    if key.kind == "lines" and isinstance(raw, list):
        return _read_lines(key, path, raw, mistakes)
    if key.kind == "strings":
        return _read_strings(key, path, raw, mistakes)
    if key.kind == "map":
        return _read_map(key, path, raw, mistakes)
    if key.kind == "paths":
        return _read_paths(key, path, raw, mistakes)
    if key.kind == "ratio":
        if isinstance(raw, int | float) and not isinstance(raw, bool):
            return _parse(key, path, repr(raw)[:100], mistakes)
        _wrong_type(path, raw, "a number such as 0.9", mistakes)
        return None
    if key.kind == "switch" and isinstance(raw, bool):
        return _parse(key, path, "yes" if raw else "no", mistakes)
    numeric = key.kind in _NUMERIC and isinstance(raw, int) and not isinstance(raw, bool)
    if not numeric and not isinstance(raw, str):
        _wrong_type(path, raw, _quoted_hint(key, raw), mistakes)
        return None
    if key.kind == "lines":
        return _read_lines(key, path, [raw], mistakes)
    text = _words(raw).strip(" \t\r\n") if key.kind in _NUMERIC else str(raw)
    return _parse(key, path, text, mistakes)


#: Kinds whose values may be a whole number without quotes.
_NUMERIC = ("quantity", "span", "switch")


def _quoted_hint(key: Key, raw: object) -> str:
    """What to write instead of a value of a wrong type; for a number with a fraction, what its text would have as hint."""
    if key.kind not in _NUMERIC:
        return "text in quotes"
    if not isinstance(raw, float):
        return "text in quotes, or a whole number"
    try:
        key.parse(repr(raw))
    except QuantityError as error:
        return _working_hint(key, error)
    return "text in quotes, with a unit"


def _working_hint(key: Key, error: QuantityError) -> str:
    """The hint of `error`; where it proposes one value that is refused, too, the hint to that one."""
    hint = error.hint
    for _ in range(_HINTS):
        if not re.fullmatch(_ONE_VALUE, hint, re.ASCII):
            break
        try:
            key.parse(hint)
        except QuantityError as refused:
            hint = refused.hint
    return hint


def _parse(key: Key, path: Path, text: str, mistakes: Mistakes) -> Parsed | None:
    try:
        if key.is_property and not text:
            raise QuantityError("the value is empty", "a value, or remove the line: then systemd's default applies")
        if key.is_property and any(ord(char) < 32 for char in text):
            raise QuantityError("the value has control characters, such as a newline", "one value on one line")
        if len(text) > 4096:
            raise QuantityError(f"the value has {len(text)} characters, which is too long", "at most 4096 characters")
        return Parsed(text=text, value=key.parse(text), location=mistakes.at(path))
    except QuantityError as error:
        mistakes.add(
            codes.BAD_VALUE, path, f"{path[-1]}: {_short(str(error))}", f"use {_short(_working_hint(key, error))}"
        )
        return None


def _read_strings(key: Key, path: Path, raw: object, mistakes: Mistakes) -> Parsed | None:
    if not isinstance(raw, list) or not all(isinstance(item, str) for item in raw):
        _wrong_type(path, raw, 'a list of texts, ["a", "b"]', mistakes)
        return None
    items = [_parse(key, path, item, mistakes) for item in raw]
    values = tuple(item.value for item in items if item is not None)
    return Parsed(text=", ".join(raw), value=values, location=mistakes.at(path))


def _read_lines(key: Key, path: Path, raw: list[object], mistakes: Mistakes) -> Parsed | None:
    """A property that may be there more than once, as a text or as a list of texts."""
    if not raw or not all(isinstance(item, str) for item in raw):
        _wrong_type(path, raw, 'text in quotes, or a list of texts, ["a", "b"]', mistakes)
        return None
    items = [_parse(key, path, str(item).strip(" \t\r\n"), mistakes) for item in raw]
    values = tuple(str(item.value) for item in items if item is not None)
    return (
        Parsed(text=", ".join(values), value=values, location=mistakes.at(path)) if len(values) == len(items) else None
    )


def _read_map(key: Key, path: Path, raw: object, mistakes: Mistakes) -> Parsed | None:
    if not isinstance(raw, dict) or not all(isinstance(item, str) for item in raw.values()):
        _wrong_type(path, raw, 'a table of texts, { NAME = "value" }', mistakes)
        return None
    for name, value in raw.items():
        if not name.isidentifier() or not name.isascii():
            mistakes.add(codes.BAD_VALUE, (*path, name), f"{name[:80]!r} is not a variable name",
                         "use letters, digits and '_', not beginning with a digit")  # fmt: skip
        _parse(key, (*path, name), value, mistakes)
    return Parsed(text="", value=tuple(raw.items()), location=mistakes.at(path))


def _read_paths(key: Key, path: Path, raw: object, mistakes: Mistakes) -> Parsed | None:
    if not isinstance(raw, dict) or not all(isinstance(item, str) for item in raw.values()):
        _wrong_type(path, raw, 'a table of paths, { "/etc/app" = "deploy/etc" }', mistakes)
        return None
    for name, value in raw.items():
        try:
            parse_guest_path(name[:4096])
        except QuantityError as error:
            mistakes.add(codes.BAD_VALUE, (*path, name), _short(str(error)), f"use {error.hint}")
        _parse(key, (*path, name), value, mistakes)
    return Parsed(text="", value=tuple(raw.items()), location=mistakes.at(path))


def _wrong_type(path: Path, raw: object, allowed: str, mistakes: Mistakes) -> None:
    mistakes.add(codes.WRONG_TYPE, path, f"{path[-1]}: the value is {_kind(raw)}", f"use {allowed}")


def _kind(raw: object) -> str:
    kinds = {bool: "a boolean", int: "a number", float: "a number with a fraction", str: "text",
             list: "a list", dict: "a table"}  # fmt: skip
    name = kinds.get(type(raw), "a date or time")
    return (
        f"{name} ({_short(_words(raw) if isinstance(raw, int) else repr(raw))})"
        if isinstance(raw, bool | int | float | str)
        else name
    )


def _words(raw: object) -> str:
    """The text of a value; Python refuses to print a number with thousands of digits."""
    try:
        return str(raw)
    except ValueError:
        return "a number with thousands of digits"


def _short(text: str) -> str:
    return text if len(text) <= 160 else f"{text[:157]}..."
