"""The completion script of zsh."""

from collections.abc import Iterator

from cgroup_preflight.cli.completion.describe import Argument, Command, Kind
from cgroup_preflight.cli.completion.services import SERVICES

_HEAD = f"""\
#compdef cgroup-preflight
# zsh completion of cgroup-preflight; made by `cgroup-preflight completion zsh`

_cgroup_preflight_services() {{
    local -a names
    names=(${{(f)"$({SERVICES})"}})
    compadd -a names
}}

_cgroup_preflight() {{
    local curcontext=$curcontext state line
    typeset -A opt_args
    local -a choices
"""
_TAIL = """\
}

if [[ $funcstack[1] == _cgroup_preflight ]]; then
    _cgroup_preflight "$@"
else
    compdef _cgroup_preflight cgroup-preflight
fi
"""
_DO = {Kind.FILES: "_files", Kind.FOLDERS: "_files -/", Kind.SERVICES: "_cgroup_preflight_services", Kind.TEXT: " "}


def script(commands: tuple[Command, ...]) -> str:
    """The whole script."""
    return "\n".join([_HEAD.rstrip("\n"), *_level(commands, "    "), _TAIL])


def _level(commands: tuple[Command, ...], indent: str) -> Iterator[str]:
    """Completes the name of a command, or passes on to the one that was named."""
    yield f"{indent}if ((CURRENT == 2)); then"
    yield f"{indent}    choices=("
    yield from (f"{indent}        {_quoted(f'{item.name}:{item.about}')}" for item in commands)
    yield f"{indent}    )"
    yield f"{indent}    _describe command choices"
    yield f"{indent}    return"
    yield f"{indent}fi"
    yield f"{indent}shift words"
    yield f"{indent}((CURRENT--))"
    yield f"{indent}case $words[1] in"
    for item in commands:
        yield f"{indent}    {item.name})"
        if item.actions:
            yield from _level(item.actions, f"{indent}        ")
        else:
            specs = [spec for option in item.options for spec in _option(option)]
            specs += [_word(word) for word in item.words]
            yield f"{indent}        _arguments \\"
            yield " \\\n".join(f"{indent}            {spec}" for spec in specs)
        yield f"{indent}        ;;"
    yield f"{indent}esac"


def _option(item: Argument) -> Iterator[str]:
    about = f"[{_escaped(item.help, '[]')}]"
    value = f":{_escaped(item.placeholder, ':')}:{_values(item)}" if item.placeholder else ""
    others = f"({' '.join(item.names)})" if len(item.names) > 1 and not item.many else ""
    for name in item.names:
        yield _quoted(f"{'*' if item.many else others}{name}{about}{value}")


def _word(item: Argument) -> str:
    return _quoted(f"{'*' if item.many else ''}:{_escaped(item.placeholder, ':')}:{_values(item)}")


def _values(item: Argument) -> str:
    return f"({' '.join(item.words)})" if item.words else _DO[item.kind]


def _escaped(text: str, characters: str) -> str:
    return "".join(f"\\{char}" if char in f"{characters}\\" else char for char in text)


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"
