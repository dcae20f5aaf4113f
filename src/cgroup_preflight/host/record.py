"""Recording a host: what `gather` read and nothing else, in one JSON file that a reviewer can read.

No environment, no process's command line; of the kernel command line, mounts and users only the pieces that `gather` needs;
user and host names are replaced (`host.redact`).
"""

import errno
import json
import time
from collections.abc import Iterable, Mapping
from typing import TypeVar

from cgroup_preflight.core.reading import Known, Reading
from cgroup_preflight.host.command import CommandRunner, Completed
from cgroup_preflight.host.fs import HostFs
from cgroup_preflight.host.redact import Answer, needed, replaced, replacer

FORMAT = 1
T = TypeVar("T")


class RecordingFs:
    """Reads through another `HostFs` and remembers the answers."""

    def __init__(self, fs: HostFs) -> None:
        self._fs = fs
        self.answers: dict[str, Answer] = {}

    def _keep(self, question: str, reading: Reading[T]) -> Reading[T]:
        self.answers[question] = _entry(reading)
        return reading

    def read(self, path: str) -> Reading[str]:
        """As `HostFs.read`."""
        return self._keep(f"read {path}", self._fs.read(path))

    def pieces(self, path: str, keep: tuple[str, ...], separator: str) -> Reading[tuple[str, ...]]:
        """As `HostFs.pieces`; the answer names what was wanted, because the rest of the file is not recorded."""
        reading = self._fs.pieces(path, keep, separator)
        self.answers[f"pieces {path}"] = {**_entry(reading), "keep": list(keep)}
        return reading

    def prefetch(self, paths: Iterable[str], *, folders: Iterable[str] = (), statuses: Iterable[str] = ()) -> None:
        """As `MachineFs.prefetch`: what is read ahead would be recorded, too, so nothing is."""

    def link(self, path: str) -> Reading[str]:
        """As `HostFs.link`."""
        return self._keep(f"link {path}", self._fs.link(path))

    def exists(self, path: str) -> Reading[bool]:
        """As `HostFs.exists`."""
        return self._keep(f"exists {path}", self._fs.exists(path))

    def device(self, path: str) -> Reading[str]:
        """As `HostFs.device`."""
        return self._keep(f"device {path}", self._fs.device(path))

    def names(self, path: str, keep: tuple[str, ...] | None = None) -> Reading[tuple[str, ...]]:
        """As `HostFs.names`."""
        return self._keep(names_question(path, keep), self._fs.names(path, keep))

    def read_only(self, path: str) -> Reading[bool]:
        """As `HostFs.read_only`."""
        return self._keep(f"read_only {path}", self._fs.read_only(path))

    def machine(self) -> Reading[str]:
        """As `HostFs.machine`."""
        return self._keep("machine", self._fs.machine())

    def page_size(self) -> Reading[int]:
        """As `HostFs.page_size`."""
        return self._keep("page_size", self._fs.page_size())


class RecordingRunner:
    """Passes commands on and remembers what they answered."""

    def __init__(self, runner: CommandRunner) -> None:
        self._runner = runner
        self.answers: dict[str, Answer] = {}

    def run(self, argv: tuple[str, ...], *, timeout: float = 20.0, stdin: bytes = b"") -> Reading[Completed]:
        """As `CommandRunner.run`."""
        reading = self._runner.run(argv, timeout=timeout, stdin=stdin)
        done = reading.value if isinstance(reading, Known) else None
        entry = _entry(reading) if done is None else {"status": done.returncode, "out": done.stdout, "err": done.stderr}
        self.answers[" ".join(argv)] = entry
        return reading


def names_question(path: str, keep: tuple[str, ...] | None) -> str:
    """The key of a folder's names in a recording."""
    return f"names {path}" if keep is None else f"names {path} {','.join(keep)}"


def _entry(reading: "Reading[object]") -> Answer:
    if isinstance(reading, Known):
        value: object = list(reading.value) if isinstance(reading.value, tuple) else reading.value
        return {"value": value}
    name = errno.errorcode.get(reading.errno or 0)
    return {"missing": reading.why.value, **({"errno": name} if name else {}),
            **({"detail": reading.detail} if reading.detail else {})}  # fmt: skip


def dump(
    fs: RecordingFs, runner: RecordingRunner, *, tool: str, systemd: int | None, names: Mapping[str, str], over: str = ""
) -> str:  # fmt: skip
    """The JSON text of a recording; `names` maps user and host names to their replacements.

    `over` says what the host was read over, empty for this one. Its name is not recorded: it is one of those replaced.
    """
    kernel = fs.answers.get("read /proc/sys/kernel/osrelease", {}).get("value", "unknown")
    host = {question: needed(question, entry) for question, entry in sorted(fs.answers.items())}
    replace = replacer(names)
    document = {
        "format": FORMAT,
        "tool": tool,
        "recorded_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        **({"recorded_over": over} if over else {}),
        "kernel": replace(str(kernel).strip()),
        "systemd": systemd,
        "host": {replace(question): replaced(entry, replace) for question, entry in host.items()},
        "commands": {replace(argv): replaced(entry, replace) for argv, entry in sorted(runner.answers.items())},
    }
    return json.dumps(document, indent=1, ensure_ascii=True) + "\n"
