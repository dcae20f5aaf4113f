"""The completion script of bash."""

import shlex
from collections.abc import Iterable, Iterator

from cgroup_preflight.cli.completion.describe import Argument, Command, Kind
from cgroup_preflight.cli.completion.services import SERVICES

_HEAD = f"""\
# bash completion of cgroup-preflight; made by `cgroup-preflight completion bash`

_cgroup_preflight_services() {{
    {SERVICES}
}}

_cgroup_preflight() {{
    local cur=${{COMP_WORDS[COMP_CWORD]}} prev=${{COMP_WORDS[COMP_CWORD-1]}} command=${{COMP_WORDS[1]}}
    local options='' words='' kind=words
    COMPREPLY=()
    # bash splits --option=value into three words.
    if [[ $cur == = ]]; then
        cur=''
    elif [[ $prev == = ]]; then
        prev=${{COMP_WORDS[COMP_CWORD-2]}}
    fi
"""
_TAIL = """\
    if [[ $cur == -* && $kind != value* ]]; then
        COMPREPLY=($(compgen -W "$options" -- "$cur"))
        return
    fi
    case $kind in
        *words) COMPREPLY=($(compgen -W "$words" -- "$cur")) ;;
        *services) COMPREPLY=($(compgen -W "$(_cgroup_preflight_services)" -- "$cur")) ;;
        *folders) compopt -o filenames; mapfile -t COMPREPLY < <(compgen -d -- "$cur") ;;
        *text) compopt +o default +o bashdefault ;;
    esac
}

# Where this proposes nothing, bash proposes files.
complete -o default -o bashdefault -F _cgroup_preflight cgroup-preflight
"""


def script(commands: tuple[Command, ...]) -> str:
    """The whole script."""
    lines = ["    if ((COMP_CWORD == 1)); then", f"        {_set('words', [item.name for item in commands])}",
             f"        {_set('options', ['--help', '--version'])}"]  # fmt: skip
    for item in commands:
        if item.actions:
            lines += [f"    elif [[ $command == {item.name} ]] && ((COMP_CWORD == 2)); then",
                      f"        {_set('words', [action.name for action in item.actions])}",
                      f"        {_set('options', _names(item.options))}"]  # fmt: skip
    lines += ["    else", f"        case $command in {'|'.join(item.name for item in commands if item.actions)})",
              "            command+=\" ${COMP_WORDS[2]}\" ;;", "        esac", "        case $command in"]  # fmt: skip
    for item in commands:
        for action in item.actions:
            lines += _branch(f"'{item.name} {action.name}'", action)
        if not item.actions:
            lines += _branch(item.name, item)
    return "\n".join([_HEAD.rstrip("\n"), *lines, "        esac", "    fi", _TAIL])


def _branch(pattern: str, command: Command) -> Iterator[str]:
    word = command.words[0] if command.words else None
    yield f"            {pattern})"
    yield f"                {_set('options', _names(command.options))}"
    yield f"                kind={word.kind.value if word else Kind.TEXT.value}"
    if word and word.words:
        yield f"                {_set('words', word.words)}"
    yield "                case $prev in"
    for item in command.options:
        if item.placeholder:
            more = f" {_set('words', item.words)}" if item.words else ""
            yield f"                    {'|'.join(item.names)}) kind=value-{item.kind.value}{more} ;;"
    yield "                esac ;;"


def _names(options: Iterable[Argument]) -> list[str]:
    return [name for item in options for name in item.names]


def _set(variable: str, words: Iterable[str]) -> str:
    return f"{variable}={shlex.quote(' '.join(words))}"
