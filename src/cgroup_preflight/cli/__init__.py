"""The command line: a table of commands; each is a module, imported only when it is called."""

import gc
import sys
from collections.abc import Sequence

#: Command, module, one line of help. Text only: `--help` imports none of them.
COMMANDS: dict[str, tuple[str, str]] = {
    "init": ("init", "write a commented starter config for the programs in this folder"),
    "check": ("check", "check this host: cgroup v2, controllers, systemd, who starts units"),
    "validate": ("validate", "judge the config and its plan before anything runs"),
    "plan": ("plan", "compute the CPU shares of the services (plan shares)"),
    "slices": ("slices", "write the generated slice and drop-in files"),
    "inspect": ("inspect", "show a Go binary's build info, and what its runtime will do"),
    "inject": ("inject", "put these files into build artifacts, or check that they are in"),
    "smoke": ("smoke", "run the services under their limits, and prove each limit"),
    "run": ("run", "check, plan, smoke and inject in order, with one report and verdict"),
    "up": ("up", "run the services side by side under their limits while you develop"),
    "logs": ("logs", "print what the services write, by slice"),
    "publish": ("publish", "send a report, or several merged ones, to the pull or merge request"),
    "exporter": ("exporter", "serve the metrics of all slices and units to Prometheus"),
    "rollout": ("rollout", "change limits of running slices in steps; take back what does harm"),
    "guest": ("guest", "build, list and remove images of the VM; run a command in it"),
    "diagnose": ("diagnose", "find out which units wait, for what, and because of whom"),
    "explain": ("explain", "explain a code of the report: what it means, why, and what to do"),
    "snapshot": ("snapshot", "record this host in a file, for a bug report or for check --root"),
    "completion": ("completion", "print the completion script of bash, zsh or fish"),
    "schema": ("schema", "print the JSON Schema of the config or of the report"),
}

_USAGE = """\
usage: cgroup-preflight COMMAND [options]

Proves, before the merge, that cgroup v2 limits set through systemd reach the
kernel and take effect.

commands:
{commands}

options:
  -h, --help     this text; `cgroup-preflight COMMAND --help` explains a command
  --version      the version

exit status: 0 pass, 1 fail, 2 wrong call or config, 3 unverified (a required
             check could not run), 4 a defect of this tool, 5 report not
             delivered, 130 and 143 ended by SIGINT and SIGTERM

First run, in the folder of your project:
  cgroup-preflight init     then edit cgroup-preflight.toml
  cgroup-preflight run
"""


def help_text() -> str:
    """What `--help` prints."""
    return _USAGE.format(commands="\n".join(f"  {name:<10} {line}" for name, (_, line) in COMMANDS.items()))


def _print(text: str) -> int:
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except (OSError, AttributeError):  # full, without a reader, or closed
        from cgroup_preflight.cli import guard, options

        return guard.guarded(lambda: options.write_stdout(text))
    return 0


def command() -> int:
    """`main`, for a process that ends then: Python would look for garbage among all objects once more, for 40 ms."""
    status = main()
    gc.freeze()
    return status


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit status. An error that a user can cause shows no traceback."""
    words = list(sys.argv[1:] if argv is None else argv)
    if words and words[0] in ("-h", "--help", "help"):
        return _print(help_text())
    if words and words[0] in ("--version", "-V"):
        from cgroup_preflight import __version__

        return _print(f"cgroup-preflight {__version__}\n")
    from cgroup_preflight.cli import guard

    return guard.run_command(words)
