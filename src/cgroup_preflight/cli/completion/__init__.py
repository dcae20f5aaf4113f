"""`cgroup-preflight completion SHELL`: the completion script of a shell, from the same options as the help."""

import argparse
import importlib

from cgroup_preflight.cli import options

_ABOUT = """\
Prints a script with which a shell completes commands, options, their values,
and the services of cgroup-preflight.toml in the current folder. It is made from
the same source as the help texts; the shell starts no program of this tool.

Use it once after the installation, and again after an update. The folder must
exist:

    mkdir -p ~/.local/share/bash-completion/completions
    cgroup-preflight completion bash \\
        > ~/.local/share/bash-completion/completions/cgroup-preflight
    mkdir -p ~/.config/fish/completions
    cgroup-preflight completion fish \\
        > ~/.config/fish/completions/cgroup-preflight.fish
    mkdir -p ~/.zfunc
    cgroup-preflight completion zsh > ~/.zfunc/_cgroup-preflight

For zsh, ~/.zshrc must have `fpath+=~/.zfunc` before `compinit`. bash needs the
package bash-completion, or `source <(cgroup-preflight completion bash)`.
"""
SHELLS = ("bash", "zsh", "fish")


def arguments() -> argparse.ArgumentParser:
    """The options of the command."""
    parser = options.parser("completion", _ABOUT)
    parser.add_argument("shell", choices=SHELLS, help="the shell that reads the script")
    return parser


def main(words: list[str]) -> int:
    """The command."""
    from cgroup_preflight.cli.completion.describe import every_command

    shell = arguments().parse_args(words).shell
    text: str = importlib.import_module(f"cgroup_preflight.cli.completion.{shell}").script(every_command())
    options.write_stdout(text)
    return 0
