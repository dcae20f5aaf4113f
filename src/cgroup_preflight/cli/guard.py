"""Runs a command, and turns every way in which it can end into an exit status."""

import _thread
import importlib
import os
import signal
import sys
import time
from collections.abc import Callable
from functools import partial
from types import FrameType

from cgroup_preflight.cli import COMMANDS, options
from cgroup_preflight.cli.terminal import width_of
from cgroup_preflight.core.errors import ConfigError, ExitStatus, PreflightError
from cgroup_preflight.report.escape import plain

#: Until a dropped signal comes again: what it interrupted has to go on first.
_AGAIN_SECONDS = 0.05
_Hook = Callable[["sys.UnraisableHookArgs"], object]


class _Terminated(BaseException):
    """SIGTERM arrived; like KeyboardInterrupt it passes every `except Exception`."""


def run_command(words: list[str]) -> int:
    """The exit status of `cgroup-preflight WORDS`."""
    if not words or words[0] not in COMMANDS:
        return _unknown(words[0] if words else "")
    _keep_closed()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _terminate)
    before, sys.unraisablehook = sys.unraisablehook, partial(_come_again, sys.unraisablehook)
    try:
        return guarded(lambda: _run(words))
    finally:
        sys.unraisablehook = before


def guarded(act: Callable[[], int | None]) -> int:
    """The exit status of `act` (None is 0), or that of what it raised, which goes to stderr in words."""
    try:
        return int(act() or 0)
    except PreflightError as error:
        return _explain(error)
    except KeyboardInterrupt:
        _say("interrupted; everything that it started was stopped")
        # Where SIGINT came during an `exec` (`dataclass` has one), Python ends itself by that signal although it was
        # caught, unless another `exec` follows (CPython, run_eval_code_obj).
        exec("")  # noqa: S102
        return ExitStatus.INTERRUPTED
    except _Terminated:
        _say("terminated; everything that it started was stopped")
        return ExitStatus.TERMINATED
    except Exception as error:  # noqa: BLE001 - 1 would mean "fail", and a defect is not a verdict
        return _defect(error)


def _run(words: list[str]) -> int:
    command = importlib.import_module(f"cgroup_preflight.cli.{COMMANDS[words[0]][0]}")
    try:
        return int(command.main(words[1:]))
    except SystemExit:
        # argparse printed its help; Python would exit with 120 if that could not be flushed.
        options.write_stdout("")
        raise


def _keep_closed() -> None:
    """Fills what the caller closed of stdin, stdout and stderr, so that no file gets its number and what is meant for it.

    It is open for reading only: what is written to `/dev/stdout` is an error, as on a closed one.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)  # the lowest number that is free: this one


def _terminate(_number: int, _frame: FrameType | None) -> None:
    raise _Terminated


def _come_again(otherwise: _Hook, dropped: "sys.UnraisableHookArgs") -> None:
    """Sends a signal once more whose exception Python dropped.

    It drops what is raised in a `__del__`, or in a callback of a weak reference, as each import has one.
    """
    number = {KeyboardInterrupt: signal.SIGINT, _Terminated: signal.SIGTERM}.get(dropped.exc_type)
    if number is None:
        otherwise(dropped)
        return
    main = _thread.get_ident()

    def send() -> None:
        time.sleep(_AGAIN_SECONDS)
        signal.pthread_kill(main, number)

    _thread.start_new_thread(send, ())


def _say(text: str) -> None:
    options.write_stderr(f"cgroup-preflight: {text}\n")


def _unknown(word: str) -> int:
    if not word:
        _say("no command was given; see cgroup-preflight --help")
        return ExitStatus.USAGE
    import difflib

    near = difflib.get_close_matches(word[:80], COMMANDS, n=1)
    hint = f"did you mean {near[0]}?" if near else f"one of: {', '.join(COMMANDS)}"
    _say(f"{plain(word)[:80]!r} is not a command; {hint}")
    return ExitStatus.USAGE


def _explain(error: PreflightError) -> int:
    from cgroup_preflight.report.wrap import wrap

    # The last lines of a tool or of a console follow, each indented.
    first, *more = str(error).split("\n")
    lines = [f"cgroup-preflight: {first}", *(f"  {line.strip()}" for line in more)]
    if isinstance(error, ConfigError):
        for finding in error.findings:
            at = f"{finding.location.file}:{finding.location.line}" if finding.location else error.where
            remedy = finding.remedies[0].title if finding.remedies else ""
            lines += [f"  {at}: {finding.message}", f"      {remedy}"]
    else:
        lines.append(f"  next: {error.remedy.title}")
        lines += [f"        {_shell(command)}" for command in error.remedy.commands]
    for line in lines:
        options.write_stderr(wrap(plain(line), width_of(sys.stderr)) + "\n")
    return int(error.exit_status)


def _shell(command: tuple[str, ...]) -> str:
    import shlex

    return shlex.join(command)


def _defect(error: Exception) -> int:
    import tempfile
    import traceback

    what = f"this is a defect of cgroup-preflight ({type(error).__name__})"
    try:
        with tempfile.NamedTemporaryFile("w", prefix="cgroup-preflight-defect-", suffix=".txt", delete=False) as file:
            traceback.print_exception(error, file=file)
    except OSError as full:
        _say(f"{what}; its details cannot be written to the temporary folder: {full.strerror}")
        return ExitStatus.DEFECT
    _say(f"{what}; add this file to a bug report: {file.name}")
    return ExitStatus.DEFECT
