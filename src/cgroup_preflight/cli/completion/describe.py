"""What the commands and their options are, as plain records, from the parsers that also print the help.

Completion scripts and the manual page are made from these.
"""

import argparse
import enum
import importlib

from cgroup_preflight.cli import COMMANDS
from cgroup_preflight.core.records import dataclass
from cgroup_preflight.report import FORMATS


class Kind(enum.Enum):
    """What a value is, so that a shell can propose some."""

    TEXT = "text"
    WORDS = "words"
    FILES = "files"
    FOLDERS = "folders"
    SERVICES = "services"


#: By a word of the placeholder in the help.
_KINDS = (
    ("DIR", Kind.FOLDERS), ("FOLDER", Kind.FOLDERS), ("SERVICE=", Kind.TEXT), ("SERVICE", Kind.SERVICES), ("FILE", Kind.FILES),
    ("PATH", Kind.FILES), ("BINARY", Kind.FILES), ("ARTIFACT", Kind.FILES), ("REPORT", Kind.FILES), ("SNAPSHOT", Kind.FILES),
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Argument:
    """One option, or one word of the command line.

    `names` is empty for a word; `placeholder` is empty for an option without a value. `words` are the values of
    `Kind.WORDS`. `many`: it may be repeated.
    """

    names: tuple[str, ...]
    placeholder: str
    help: str
    kind: Kind
    words: tuple[str, ...]
    many: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """One command or action: `about` is one line, `description` the text above the options in its help."""

    name: str
    about: str
    description: str
    options: tuple[Argument, ...]
    words: tuple[Argument, ...]
    actions: tuple["Command", ...]


def every_command() -> tuple[Command, ...]:
    """All commands, in the order of the help. Imports all of them."""
    found = []
    for name, (module, about) in COMMANDS.items():
        parser = importlib.import_module(f"cgroup_preflight.cli.{module}").arguments()
        found.append(_command(name, about, parser))
    return tuple(found)


def _command(name: str, about: str, parser: argparse.ArgumentParser) -> Command:
    # argparse has no public list of what was added; shtab and argcomplete read the same attribute.
    added = [item for item in parser._actions if item.help != argparse.SUPPRESS]  # noqa: SLF001
    groups = [item for item in added if isinstance(item, argparse._SubParsersAction)]  # noqa: SLF001
    arguments = [_argument(item, parser) for item in added if item not in groups]
    actions: list[Command] = []
    for group in groups:
        helps = {item.dest: item.help or "" for item in group._choices_actions}  # noqa: SLF001
        actions += [_command(key, helps[key], below) for key, below in group.choices.items()]
    return Command(
        name=name, about=about, description=parser.description or "",
        options=tuple(item for item in arguments if item.names), words=tuple(item for item in arguments if not item.names),
        actions=tuple(actions),
    )  # fmt: skip


def _argument(item: argparse.Action, parser: argparse.ArgumentParser) -> Argument:
    takes_value = item.nargs != 0
    shown = item.metavar if isinstance(item.metavar, str) else ""
    placeholder = (
        (shown or (item.dest.upper() if item.choices is None else "|".join(item.choices))) if takes_value else ""
    )
    words = _words(placeholder, item, parser.prog)
    return Argument(
        names=tuple(item.option_strings), placeholder=placeholder,
        help=(item.help or "") % {"default": item.default, "prog": parser.prog}, words=words,
        kind=Kind.WORDS if words else next((kind for part, kind in _KINDS if part in placeholder), Kind.TEXT),
        many=item.nargs in ("*", "+") or isinstance(item, argparse._AppendAction),  # noqa: SLF001
    )  # fmt: skip


def _words(placeholder: str, item: argparse.Action, command: str) -> tuple[str, ...]:
    if item.choices is not None:
        return tuple(map(str, item.choices))
    if placeholder.startswith("FORMAT"):
        return FORMATS
    if placeholder == "DISTRO":
        # Names of imported roots are legal, too: no `choices`.
        from cgroup_preflight.config.keys import DISTROS

        return tuple(DISTROS)
    if command.endswith(" explain") and not item.option_strings:
        from cgroup_preflight.checks.reference import known_codes

        return tuple(known_codes())
    return ()
