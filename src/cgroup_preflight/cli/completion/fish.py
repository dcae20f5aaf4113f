"""The completion script of fish."""

from collections.abc import Iterator

from cgroup_preflight.cli.completion.describe import Argument, Command, Kind
from cgroup_preflight.cli.completion.services import SERVICES

_HEAD = f"""\
# fish completion of cgroup-preflight; made by `cgroup-preflight completion fish`

function __cgroup_preflight_services
    {SERVICES}
end

# Whether the command line begins with these words: a command, or a command and its action.
function __cgroup_preflight_at
    set -l words (commandline -opc)
    set -l last (math 1 + (count $argv))
    test (count $words) -ge $last; and test "$words[2..$last]" = "$argv"
end

# Whether exactly these words stand before the one that is completed.
function __cgroup_preflight_after
    test (count (commandline -opc)) -eq (math 1 + (count $argv)); or return 1
    test (count $argv) -eq 0; or __cgroup_preflight_at $argv
end

complete -c cgroup-preflight -f
complete -c cgroup-preflight -n __cgroup_preflight_after -l help -d 'print the commands'
complete -c cgroup-preflight -n __cgroup_preflight_after -l version -d 'print the version'
"""
_ARGUMENTS = {
    Kind.FILES: "-F", Kind.FOLDERS: "-x -a '(__fish_complete_directories)'",
    Kind.SERVICES: "-x -a '(__cgroup_preflight_services)'", Kind.TEXT: "-x",
}  # fmt: skip


def script(commands: tuple[Command, ...]) -> str:
    """The whole script."""
    return "\n".join([_HEAD, *_level(commands, ()), ""])


def _level(commands: tuple[Command, ...], above: tuple[str, ...]) -> Iterator[str]:
    for item in commands:
        after = " ".join(("__cgroup_preflight_after", *above))
        yield f"complete -c cgroup-preflight -n {_quoted(after)} -a {item.name} -d {_quoted(item.about)}"
    for item in commands:
        names = (*above, item.name)
        if item.actions:
            yield from _level(item.actions, names)
            continue
        at = _quoted(" ".join(("__cgroup_preflight_at", *names)))
        yield from (_argument(argument, at) for argument in (*item.options, *item.words))


def _argument(item: Argument, at: str) -> str:
    named = [f"-l {name[2:]}" if name.startswith("--") else f"-s {name[1:]}" for name in item.names]
    given = f"-x -a {_quoted(' '.join(item.words))}" if item.words else _ARGUMENTS[item.kind]
    if not item.names:
        # A word needs no option before it.
        given = given.removeprefix("-x").strip()
    elif not item.placeholder:
        given = ""
    elif given == "-F":
        given = "-r -F"
    about = f"-d {_quoted(item.help)}" if item.names else ""
    return " ".join(part for part in ("complete -c cgroup-preflight -n", at, *named, given, about) if part)


def _quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
