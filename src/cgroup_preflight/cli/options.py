"""Options that several commands share, and where their output goes."""

import argparse
import os
import sys
from collections.abc import Sequence

from cgroup_preflight.cli.terminal import use_colour, width_of
from cgroup_preflight.core.errors import UsageError
from cgroup_preflight.core.records import TYPE_CHECKING, dataclass
from cgroup_preflight.core.report import Remedy, Report
from cgroup_preflight.report import FORMATS, MODULES

if TYPE_CHECKING:
    from pathlib import Path
    from typing import TextIO

_REDIRECT = Remedy(title="redirect stdout to where it can be written")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rendering:
    """One rendering: a format, and the file it goes to; empty for stdout. `quiet`: the text has no warnings and tables."""

    format: str
    file: str = ""
    quiet: bool = False


def parser(command: str, description: str) -> argparse.ArgumentParser:
    """An argument parser in the style of this tool."""
    return argparse.ArgumentParser(
        prog=f"cgroup-preflight {command}", description=description, allow_abbrev=False,
        formatter_class=help_format,
    )  # fmt: skip


def help_format(prog: str) -> argparse.HelpFormatter:
    """Keeps the lines of a description, and fits the options to the terminal."""
    return argparse.RawDescriptionHelpFormatter(prog, width=_columns())


def here() -> "Path":
    """The current folder. Raises UsageError where it is gone."""
    from pathlib import Path

    try:
        return Path.cwd()
    except OSError as error:
        raise UsageError(f"the current folder cannot be read: {error.strerror}", where=".",
                         remedy=Remedy(title="change to a folder that exists")) from None  # fmt: skip


def _columns() -> int:
    """The width that argparse would choose; argparse imports shutil for it, and with it four modules for archives."""
    try:
        return max(int(os.environ.get("COLUMNS") or os.get_terminal_size().columns), 40) - 2
    except (ValueError, OSError):
        return 78


def add_config(to: argparse.ArgumentParser) -> None:
    """`--config` and `--allow-outside`."""
    to.add_argument("--config", metavar="FILE", type=_path,
                    help="the config (default: cgroup-preflight.toml in this folder or one above)")  # fmt: skip
    to.add_argument("--allow-outside", metavar="DIR", action="append", default=[],
                    help="let paths of the config lead into this folder, too; may be repeated")  # fmt: skip


def _path(text: str) -> "Path":
    from pathlib import Path  # a check without files starts sooner

    return Path(text)


def add_hosts(to: argparse.ArgumentParser) -> None:
    """`--host` and `--ssh-config`."""
    to.add_argument("--host", metavar="[USER@]NAME", action="append", default=[],
                    help="ask this host over ssh instead of the one this runs on; may be repeated")  # fmt: skip
    to.add_argument("--ssh-config", metavar="FILE", default="", help="with --host: a configuration for ssh (ssh -F)")


def add_report(
    to: argparse.ArgumentParser, formats: Sequence[str] = tuple(FORMATS), *, shows_passed: bool = False
) -> None:  # fmt: skip
    """`--format`, `--output` and the options of the exit status; `-v` unless the text always shows what passed."""
    to.add_argument("--format", action="append", metavar="FORMAT[=FILE]", default=[],
                    help=f"one of {', '.join(formats)}, to stdout or to FILE; may be repeated: --format text --format json=report.json")  # fmt: skip
    to.add_argument("--output", metavar="FILE", default="", help="write the one --format to FILE instead of stdout")
    detail = to.add_mutually_exclusive_group()
    if not shows_passed:
        detail.add_argument("-v", "--verbose", action="store_true", help="also show the checks that passed")
    detail.add_argument("-q", "--quiet", action="store_true",
                        help="show the verdict and what is no pass only, and no progress")  # fmt: skip
    to.add_argument(
        "--allow-unverified", action="store_true", help="exit with 0 instead of 3 where a required check could not run"
    )
    to.add_argument(
        "--exit-zero",
        action="store_true",
        help="exit with 0 for every verdict: for a CI step that reads the report itself",
    )


def outputs(words: list[str], output: str, *, quiet: bool = False) -> tuple[Rendering, ...]:
    """The requested renderings, with text on stdout where no other goes there. Raises UsageError."""
    found = []
    for word in words or ["text"]:
        name, separator, file = word.partition("=")
        if name not in FORMATS or (separator and not file):
            raise UsageError(f"{word!r} is not a format", where="--format",
                             remedy=Remedy(title=f"use one of {', '.join(FORMATS)}, or FORMAT=FILE"))  # fmt: skip
        found.append(Rendering(format=name, file=file, quiet=quiet))
    if output:
        if len(found) != 1 or found[0].file:
            raise UsageError("--output needs exactly one --format, without =FILE", where="--output",
                             remedy=Remedy(title="use --format FORMAT=FILE for each format"))  # fmt: skip
        return (Rendering(format=found[0].format, file=output, quiet=quiet),)
    bare = [item for item in found if not item.file]
    if len(bare) > 1:
        raise UsageError("two formats cannot both go to stdout", where="--format",
                         remedy=Remedy(title="write all but one to a file: --format FORMAT=FILE"))  # fmt: skip
    return tuple(found) if bare else (*found, Rendering(format="text", quiet=quiet))


def deliver(
    report: Report, wanted: tuple[Rendering, ...], *, verbose: bool, note: str = "", inside: bool = False
) -> None:  # fmt: skip
    """Renders and writes; `note` is a paragraph at the end of a text. Raises UsageError for a file that cannot be written.

    `inside` a guest, only this tool reads the JSON.
    """
    for item in wanted:
        text = _render(report, item, verbose=verbose, inside=inside)
        if note and item.format == "text" and not item.quiet:
            from cgroup_preflight.report.escape import plain
            from cgroup_preflight.report.wrap import wrap

            text += f"\n{wrap(plain(note), None if item.file else width_of(sys.stdout))}\n"
        if item.file:
            write_text(_path(item.file), text)
        else:
            write_stdout(text)


def load(wanted: tuple[Rendering, ...]) -> None:
    """Loads what renders a report, which takes a while; without it, `deliver` does."""
    import importlib

    for item in wanted:
        importlib.import_module(f"cgroup_preflight.report.{MODULES[item.format]}")


def write_stdout(text: str | bytes) -> bool:
    """Writes to stdout; a reader that closes the pipe early (`| head`) does not change the exit status.

    False where nobody reads any more, so that what has no end of its own can stop.

    Raises UsageError where stdout is closed or full: a report that nobody can read is no result.
    """
    if sys.stdout is None:
        raise UsageError("cannot write: it is closed", where="stdout", remedy=_REDIRECT)
    try:
        _write(sys.stdout, text)
    except BrokenPipeError:
        _discard(sys.stdout)
        return False
    except OSError as error:
        _discard(sys.stdout)
        raise UsageError(f"cannot write: {error.strerror or error}", where="stdout", remedy=_REDIRECT) from None
    return True


def write_stderr(text: str | bytes) -> None:
    """Writes to stderr; where it is closed or full, the exit status alone has to tell."""
    if sys.stderr is None:
        return
    try:
        _write(sys.stderr, text)
    except OSError:
        _discard(sys.stderr)


def _write(stream: "TextIO", text: str | bytes) -> None:
    if isinstance(text, bytes):
        stream.buffer.write(text)
    else:
        stream.write(text)
    stream.flush()


def _discard(stream: "TextIO") -> None:
    """Sends a stream that failed to nowhere: what is still buffered would be flushed at exit, and fail again."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _render(report: Report, item: Rendering, *, verbose: bool, inside: bool) -> str:
    if inside and item.format == "json":
        from cgroup_preflight.report import codec

        return codec.render(report, indent=None)
    if item.format == "text":
        from cgroup_preflight.report import text
        from cgroup_preflight.report.wrap import wrap

        colour, width = not item.file and use_colour(), None if item.file else width_of(sys.stdout)
        if item.quiet:
            return wrap(text.brief(report, colour=colour), width)
        return wrap(text.render(report, colour=colour, verbose=verbose, width=width), width)
    import importlib

    module = importlib.import_module(f"cgroup_preflight.report.{MODULES[item.format]}")
    rendered: str = module.render(report)
    return rendered


def write_text(path: "Path", text: str) -> None:
    """Writes a regular file whole or not at all, and through a link, device or FIFO. Raises UsageError."""
    from cgroup_preflight.host.files import write_output

    write_output(str(path), text.encode("utf-8", "backslashreplace"))


def progress(text: str) -> None:
    """One line about long work, on a terminal only."""
    if sys.stderr is not None and sys.stderr.isatty():
        write_stderr(f"  {text}\n")
