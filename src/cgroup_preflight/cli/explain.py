"""`cgroup-preflight explain WORD`: what a check does, what its failure means, what to do, sources."""

import argparse

from cgroup_preflight.checks.reference import Entry, entries, entry, explain, titles
from cgroup_preflight.cli import options
from cgroup_preflight.core.errors import UsageError
from cgroup_preflight.core.records import TYPE_CHECKING
from cgroup_preflight.core.report import Remedy

if TYPE_CHECKING:
    from cgroup_preflight.config.properties import Property

_ABOUT = """\
Explains a code of the report: what the check does, what it means when it
fails, and what to do. For any other word, it lists the codes about it.

Use it when a report names a code, or when you want to know what is checked.

    cgroup-preflight explain CGP504      (a code)
    cgroup-preflight explain oom-kill    (the name of a code)
    cgroup-preflight explain MemoryMax   (a property: what it is, and its codes)
    cgroup-preflight explain cpu.stat    (a file of a cgroup)
    cgroup-preflight explain swap        (a word)
    cgroup-preflight explain             (lists every code)

Exit status: 0, or 2 if no code is about the word.
"""


def arguments() -> argparse.ArgumentParser:
    """The options of the command."""
    parser = options.parser("explain", _ABOUT)
    parser.add_argument("word", nargs="?", metavar="WORD", help="a code, a name, a property, a file or a word")
    return parser


def main(words: list[str]) -> int:
    """The command. Raises UsageError for a word that no code is about."""
    word = arguments().parse_args(words).word
    options.write_stdout(titles(entries()) if word is None else _by_code(word) or _answer(word))
    return 0


def _by_code(word: str) -> str:
    """The page of a code, which needs no other page; empty for any other word."""
    try:
        return explain(entry(word.upper()))
    except KeyError:
        return ""


def _answer(word: str) -> str:
    from cgroup_preflight.checks.search import entries_about, property_of

    known = entries()
    named = next((item for item in known if word.lower() == item.code.name), None)
    about = tuple(item for item in entries_about(word, known) if item is not named)
    found = property_of(word)
    parts = [explain(named)] if named is not None else [_property(found)] if found is not None else []
    if not parts and not about:
        raise _unknown(word, known)
    if not parts and len(about) == 1:
        return explain(about[0])
    if about:
        parts.append(f"{'Other codes' if named is not None else 'Codes'} about {word}:\n\n{titles(about)}")
    return "\n".join(parts)


def _property(item: "Property") -> str:
    return (
        f"{item.name}= (property of a slice or a service)\n\n    {item.doc}\n\n"
        f"    file         {item.attribute or 'none; only systemd has the value'}\n"
        f"    controller   {item.controller}\n"
        f"    systemd      {item.since} or later\n"
        f'    example      {item.name} = "{item.example}"\n'
    )


def _unknown(word: str, known: tuple[Entry, ...]) -> UsageError:
    from cgroup_preflight.checks.search import nearest_word

    near = nearest_word(word, known)
    title = f"did you mean {near}?" if near else "list all codes: cgroup-preflight explain"
    return UsageError(f"no code is about {word[:60]!r}", where="explain", remedy=Remedy(title=title))
