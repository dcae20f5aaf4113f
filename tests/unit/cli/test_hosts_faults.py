"""A fault at every message of a host: a connection that is cut there, an answer that is late, garbled, or comes twice.

A message is a packet of SFTP, or the answer to a batch of the shell. The host is played: a small SFTP server and `sh`.
Time is played, too: nothing here waits. The verdict is then the same as without the fault, or unverified with a reason.
"""

import io
import json
import os
import random
import tempfile
import time
from pathlib import Path

import pytest
from ci.cgroup_tree import CgroupTree

from cgroup_preflight.cli import hosts, main
from cgroup_preflight.core.errors import HostError
from cgroup_preflight.core.reading import Known
from cgroup_preflight.core.records import replace
from cgroup_preflight.host.remote.asking import Asker
from cgroup_preflight.host.remote.files import RemoteFiles
from cgroup_preflight.host.remote.sftp import Sftp
from cgroup_preflight.host.remote.shell import Shell
from tests.unit.host.remote import ends

pytestmark = [pytest.mark.starts_processes, pytest.mark.timeout(300)]
CUT, LATE, SILENT, GARBLED, TWICE = "cut", "late", "silent", "garbled", "twice"
#: What the cgroup of a played host has.
_FILES = (
    "cgroup.controllers",
    "cgroup.procs",
    "cpu.stat",
    "cpu.pressure",
    "memory.current",
    "memory.events",
    "memory.pressure",
)
#: Files of the machine below the test, on which anything may go on.
_BUSY = (b"/proc/stat", b"/proc/pressure/", b"/proc/meminfo")
FAULTS = (CUT, LATE, SILENT, GARBLED, TWICE)


class Lines(ends.LocalLines):
    """As `SshLines`: a host that is played."""

    def __init__(self, name: str, _folder: str, config: str = "") -> None:
        super().__init__(files=("false",) if name == "plain" else None)
        self.name = name

    def files(self) -> ends.Line:
        return super().files() if self._files or self.name == "writes" else ends.played()

    def abandon(self) -> None:
        """Nothing waits here."""


class Wire:
    """Counts messages, and does `fault` to the one with the number `at`, from 1 on; `now` is the played time."""

    def __init__(self) -> None:
        self.fault, self.at, self.count, self.now = "", 0, 0, 1000.0
        #: Whether nothing goes on on the machine.
        self.is_still = False

    def hit(self) -> str:
        self.count += 1
        if self.count != self.at:
            return ""
        if self.fault in (LATE, SILENT):
            self.now += 0.3 if self.fault == LATE else 1000.0
        return self.fault


@pytest.fixture
def wire(monkeypatch, tmp_path):
    made, note, collect, answered = Wire(), Sftp._note, Shell.collect, ends._answered

    def noted(self, kind, content):
        fault = made.hit()
        if fault in (CUT, SILENT):
            raise self._line.fail(
                "the other end closed the connection" if fault == CUT else "it did not answer in time"
            )
        if fault == GARBLED:
            content = content[:4] + random.Random(made.at).randbytes(len(content) - 4)
        found = note(self, kind, content)
        return note(self, kind, content) if fault == TWICE else found

    def collected(self, posted):
        fault = made.hit()
        if fault in (CUT, SILENT):
            raise self._line.fail(
                "the other end closed the connection" if fault == CUT else "it did not answer in time"
            )
        found = collect(self, posted)
        if fault == GARBLED:
            noise = random.Random(made.at)
            return [
                replace(one, out=noise.randbytes(len(one.out)), err=noise.randbytes(20).decode("latin-1"))
                for one in found
            ]
        return found[:1] * len(found) if fault == TWICE else found

    def played(kind, body, handles):
        if kind == 3 and b"/proc/uptime" in body[8:]:
            number = int.from_bytes(body[:4], "big")
            handles[b"h%d" % number] = b"%.2f 1.00\n" % made.now
            return ends.answer(102, number, ends.text(b"h%d" % number))
        if kind == 3 and body[8:].startswith(_BUSY) and made.is_still:
            raise FileNotFoundError
        return answered(kind, body, handles)

    def slept(seconds):
        made.now += seconds

    monkeypatch.setattr(os, "fsync", lambda _handle: None)
    began = time.monotonic()
    monkeypatch.setattr(Sftp, "_note", noted)
    monkeypatch.setattr(Shell, "collect", collected)
    monkeypatch.setattr(ends, "_answered", played)
    monkeypatch.setattr(hosts, "SshLines", Lines)
    monkeypatch.setattr(hosts, "control_folder", lambda: "")
    monkeypatch.setattr(time, "sleep", slept)
    monkeypatch.setattr(time, "monotonic", lambda: began + made.now - 1000.0)
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    monkeypatch.chdir(tmp_path)
    return made


def told(wire: Wire, fault: str, at: int, *words: str) -> tuple[int, dict]:
    wire.fault, wire.at, wire.count = fault, at, 0
    Path("report.json").unlink(missing_ok=True)
    status = main([*words, "--format", "json=report.json"])
    return status, json.loads(Path("report.json").read_text())


def at_every_message(wire: Wire, *words: str, most: int, step: int = 1) -> list[tuple[str, int]]:
    """Faults at each message, or one of `step`, `most` of them where there are many; those that left the verdict as it was."""
    status, whole = told(wire, "", 0, *words)
    count, same = wire.count, list[tuple[str, int]]()
    assert count > 3
    for number, at in enumerate(range(1, count + 1, step)):
        # Where there are many messages, each has other faults than the one before.
        for fault in FAULTS if count < 20 else [FAULTS[(number + place) % len(FAULTS)] for place in range(most)]:
            found, report = told(wire, fault, at, *words)
            where = (fault, at, report["findings"][0]["message"])
            assert (found, report["verdict"]) in ((status, whole["verdict"]), (3, "unverified")), where
            if found == status:
                same.append((fault, at))
                continue
            reasons = [item["message"] for item in report["findings"] if item["status"] == "unverified"]
            assert reasons, where
            assert all(reasons), where
            assert not any("Traceback" in item or "\n" in item for item in reasons), where
    assert not os.listdir(tempfile.gettempdir())
    return same


@pytest.mark.parametrize("host", ["web1", "plain"])
def test_a_check_of_a_host_with_a_fault_at_any_message(wire, host):
    same = at_every_message(wire, "check", "--host", host, most=1)
    assert same
    # Without a first answer there is no SFTP server, and the shell answers for it.
    assert {item for item in same if item[0] in (CUT, SILENT)} <= ({(CUT, 1), (SILENT, 1)} if host == "web1" else set())


def test_a_diagnosis_of_a_host_with_a_fault_at_any_message(wire, tmp_path, monkeypatch):
    """No late answer is time of the host, and no answer that is not one is a quiet host. All readings ask the same."""
    (tmp_path / "m").mkdir()
    CgroupTree(tmp_path / "m").add("/a.slice")
    for file in (tmp_path / "m").rglob("*.*"):
        if file.is_file() and file.name not in _FILES:
            file.unlink()
    monkeypatch.setattr("cgroup_preflight.metrics.asked.cgroup_mount", lambda fs: str(tmp_path / "m"))
    wire.is_still = True
    same = at_every_message(wire, "diagnose", "--host", "web1", "--seconds", "2", most=1, step=4)
    assert same


@pytest.mark.skipif(not ends.SFTP_SERVER, reason="the played server does not write")
def test_files_that_are_placed_with_a_fault_at_any_message_are_whole_or_an_error(wire, tmp_path):
    """As `smoke --host` places its programs, and reads what services write."""
    data, placed = random.Random(1).randbytes(100_000), 0

    def place(fault: str, at: int) -> bool:
        wire.fault, wire.at, wire.count = fault, at, 0
        lines, folder = Lines("writes", ""), tmp_path / f"{fault}{at}"
        asker = Asker(lines.shell, lines.files)
        files = RemoteFiles(asker)
        try:
            files.make_folder(str(folder))
            files.upload(io.BytesIO(data), f"{folder}/web", 0o755)
            found = files.tail(f"{folder}/web", 0, 1 << 20)
        except HostError as error:
            assert "\n" not in error.message
            return False
        finally:
            asker.close()
        assert (folder / "web").read_bytes() == data, (fault, at)
        assert not isinstance(found, Known) or found.value == data, (fault, at)
        return True

    assert place("", 0)
    for at in range(1, wire.count + 1):
        placed += sum(place(fault, at) for fault in FAULTS)
    assert placed
