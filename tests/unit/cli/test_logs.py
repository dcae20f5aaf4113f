"""`logs`: names to units, the lines of a journal (a program in place of journalctl) and of the files of `up`."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from tests.unit.cli.calling import FILE, call, check_harmless, environment

pytestmark = pytest.mark.starts_processes
CONFIG = """\
[project]
name = "shop"
[slices.api]
CPUWeight = 300
[slices.api-slow]
CPUWeight = 10
[services.user-api]
binary = "a"
slice = "api"
MemoryMax = "64M"
[services.report]
binary = "b"
slice = "api-slow"
[services.worker]
binary = "c"
"""
#: Prints names for --field, else what it was called with and the entries; with --follow it never ends by itself.
JOURNALCTL = """\
#!{python} -IS
import json, os, sys, time
folder = os.path.dirname(os.path.abspath(__file__))
field = [word.partition("=")[2] for word in sys.argv if word.startswith("--field=")]
if field:
    names = json.load(open(folder + "/names"))
    print("\\n".join(names.get(field[0], [])))
    sys.exit(0)
if "--lines=1" in sys.argv:
    every = [name for found in json.load(open(folder + "/names")).values() for name in found]
    print("{{}}" * any("--unit=" + name in sys.argv for name in every), end="")
    sys.exit(0)
with open(folder + "/called", "w") as file:
    json.dump(sys.argv[1:], file)
if "--since=nonsense" in sys.argv:
    print("Failed to parse timestamp: nonsense", file=sys.stderr)
    sys.exit(1)
print("Hint: You are currently not seeing messages from other users.", file=sys.stderr)
sys.stdout.buffer.write(open(folder + "/entries", "rb").read())
sys.stdout.flush()
if "--follow" in sys.argv:
    open(folder + "/pid", "w").write(str(os.getpid()))
    time.sleep(600)
"""
NAMES = {
    "_SYSTEMD_UNIT": ["user-api.service", "cron.service"],
    "_SYSTEMD_SLICE": ["system.slice", "api.slice", "api-slow.slice", "api-old.slice", "apis.slice"],
}


def journal(tmp_path, *entries, names=NAMES):
    folder = tmp_path / "tmp"
    folder.mkdir(exist_ok=True)
    (folder / "journalctl").write_text(JOURNALCTL.format(python=sys.executable))
    (folder / "journalctl").chmod(0o755)
    (folder / "names").write_text(json.dumps(names))
    lines = [item if isinstance(item, bytes) else json.dumps(item).encode() for item in entries]
    (folder / "entries").write_bytes(b"".join(line + b"\n" for line in lines))
    return folder


def entry(message, unit="user-api.service", **more):
    return {"__REALTIME_TIMESTAMP": "1764430000123456", "MESSAGE": message, "_SYSTEMD_UNIT": unit, **more}


def log_of(tmp_path, service, data):
    folder = tmp_path / "state" / "cgroup-preflight" / "shop" / "logs"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{service}.log").write_bytes(data)
    return folder / f"{service}.log"


def logs(tmp_path, *words, statuses=(0,), **more):
    return call(
        tmp_path,
        "logs",
        *words,
        config=CONFIG,
        statuses=statuses,
        XDG_STATE_HOME=str(tmp_path / "state"),
        TZ="UTC",
        **more,
    )


def units(folder):
    called = json.loads((folder / "called").read_text())
    return {word.partition("=")[2] for word in called if word.startswith("--unit=")}


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], {"api.slice", "api-slow.slice", "api-old.slice", "user-api.service", "report.service", "worker.service"}),
        (["api"], {"api.slice", "api-slow.slice", "api-old.slice", "user-api.service", "report.service"}),
        (["api-slow.slice"], {"api-slow.slice", "report.service"}),
        (["worker"], {"worker.service"}),
        (["cron.service", "user-api"], {"cron.service", "user-api.service"}),
    ],
    ids=["all", "slice", "nested slice", "service", "two units"],
)
def test_a_slice_is_its_services_and_the_slices_below(tmp_path, words, expected):
    folder = journal(tmp_path, entry("x"), names={**NAMES, "_SYSTEMD_USER_UNIT": ["worker.service", "report.service"]})
    logs(tmp_path, *words)
    assert units(folder) == expected


def test_each_line_has_its_time_and_service_and_is_harmless(tmp_path):
    journal(
        tmp_path, entry("ready"), entry("two\nlines"), entry([104, 105, 255, 27, 91, 51, 49, 109]), b"\0broken", b"{",
        entry("\u202e", unit="\x1b[2Jx.service"),
    )  # fmt: skip
    called = logs(tmp_path)
    check_harmless(called.out.replace("\ufffd", "?"))
    assert called.out.splitlines() == [
        "2025-11-29 15:26:40 user-api | ready",
        "2025-11-29 15:26:40 user-api | two",
        "2025-11-29 15:26:40 user-api | lines",
        "2025-11-29 15:26:40 user-api | hi\ufffd\\x1b[31m",
        "2025-11-29 15:26:40 \\x1b[2Jx.service | \\u202e",
    ]
    assert called.err == ""


def test_json_has_one_object_for_each_entry(tmp_path):
    journal(
        tmp_path,
        entry("two\nlines\x1b", _PID="7", PRIORITY="3", _SYSTEMD_SLICE="api.slice"),
        entry("x", unit="y.scope"),
    )
    first, second = (json.loads(line) for line in logs(tmp_path, "--json").out.splitlines())
    assert first == {
        "service": "user-api", "time": "2025-11-29T15:26:40.123456Z", "unit": "user-api.service", "slice": "api.slice",
        "pid": 7, "priority": 3, "message": "two\nlines\x1b",
    }  # fmt: skip
    assert (second["service"], second["unit"], second["pid"]) == (None, "y.scope", None)


def test_since_goes_to_the_journal_as_one_word_and_its_answer_is_told(tmp_path):
    folder = journal(tmp_path, entry("x"))
    logs(tmp_path, "--since", "1 hour ago; id")
    assert "--since=1 hour ago; id" in json.loads((folder / "called").read_text())
    assert "Failed to parse timestamp" in logs(tmp_path, "--since", "nonsense", statuses=(2,)).err
    assert "not a time" in logs(tmp_path, "--since", "x" * 200, statuses=(2,)).err


def test_no_entry_is_said(tmp_path):
    journal(tmp_path)
    called = logs(tmp_path, "user-api")
    assert called.out == ""
    assert "no entries of these units" in called.err


@pytest.mark.parametrize("names", [None, {}])
def test_without_a_journal_the_files_of_up_are_printed(tmp_path, names):
    if names is not None:
        journal(tmp_path, names=names)
    log_of(tmp_path, "user-api", b"one\n\xff\x1b[31m\n")
    log_of(tmp_path, "worker", b"two")
    assert logs(tmp_path).out.splitlines() == ["user-api | one", "user-api | \ufffd\\x1b[31m", "worker   | two"]
    assert logs(tmp_path, "api").out.splitlines() == ["user-api | one", "user-api | \ufffd\\x1b[31m"]
    assert json.loads(logs(tmp_path, "worker", "--json").out)["message"] == "two"
    assert "no times" in logs(tmp_path, "--since", "today", statuses=(2,)).err
    called = logs(tmp_path, "report", statuses=(3,))
    assert "no journal can be read" in called.err


def test_the_journal_is_used_where_it_has_a_service_and_the_files_where_it_has_none(tmp_path):
    journal(tmp_path, entry("from the journal"))
    log_of(tmp_path, "user-api", b"from a file\n")
    log_of(tmp_path, "worker", b"from a file\n")
    assert "from the journal" in logs(tmp_path, "user-api").out
    assert "from a file" in logs(tmp_path, "worker").out


def test_a_log_that_is_a_fifo_or_link_is_refused(tmp_path):
    path = log_of(tmp_path, "worker", b"")
    path.unlink()
    os.mkfifo(path)
    assert "cannot be read" in logs(tmp_path, "worker", statuses=(3,)).err
    path.unlink()
    path.symlink_to("/dev/zero")
    assert "cannot be read" in logs(tmp_path, "worker", statuses=(3,)).err


@pytest.mark.parametrize(
    ("words", "says"),
    [(["user-apy"], "did you mean user-api?"), (["\x1b[31m"], "neither the config"), ([""], "neither the config"),
     (["cron"], "neither the config"), (["--since"], "--since")],
    ids=str,
)  # fmt: skip
def test_wrong_calls(tmp_path, words, says):
    journal(tmp_path, entry("x"))
    assert says in logs(tmp_path, *words, statuses=(2,)).err


def test_without_a_config_a_unit_has_to_be_named(tmp_path):
    folder = journal(tmp_path, entry("x", unit="cron.service"))
    assert "name a slice or service" in call(tmp_path, "logs", statuses=(2,)).err
    assert "cron.service | x" in call(tmp_path, "logs", "cron.service", statuses=(0,)).out
    call(tmp_path, "logs", "-.slice", statuses=(2,))
    call(tmp_path, "logs", "api.slice", statuses=(0,))
    assert units(folder) == {"api.slice", "api-slow.slice", "api-old.slice"}


@pytest.mark.parametrize("from_file", [False, True])
def test_follow_prints_at_once_and_ctrl_c_ends_it_with_nothing_left(tmp_path, from_file):
    folder = journal(tmp_path, entry("ready"), names={} if from_file else NAMES)
    log_of(tmp_path, "user-api", b"ready\n")
    (tmp_path / FILE).write_text(CONFIG)
    process = subprocess.Popen(
        [sys.executable, "-m", "cgroup_preflight", "logs", "user-api", "--follow"], cwd=tmp_path, text=True,
        env=environment(tmp_path, XDG_STATE_HOME=str(tmp_path / "state")), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        assert process.stdout.readline().endswith("user-api | ready\n")
        if from_file:
            with log_of(tmp_path, "user-api", b"ready\n").open("ab") as file:
                file.write(b"more\n")
            assert process.stdout.readline() == "user-api | more\n"
        else:
            deadline = time.monotonic() + 20
            while not (folder / "pid").exists() and time.monotonic() < deadline:
                time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=20)
    finally:
        process.kill()
        process.wait()
    assert (process.returncode, err.count("\n")) == (130, 1)
    if not from_file:
        with pytest.raises(ProcessLookupError):
            os.kill(int((folder / "pid").read_text()), 0)


@pytest.mark.parametrize("from_file", [False, True])
def test_follow_ends_when_nobody_reads_any_more(tmp_path, from_file):
    folder = journal(tmp_path, *[entry("x" * 1000)] * 500, names={} if from_file else NAMES)
    log = log_of(tmp_path, "user-api", b"x" * 1000 + b"\n")
    (tmp_path / FILE).write_text(CONFIG)
    process = subprocess.Popen(
        [sys.executable, "-m", "cgroup_preflight", "logs", "user-api", "--follow"], cwd=tmp_path,
        env=environment(tmp_path, XDG_STATE_HOME=str(tmp_path / "state")), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        with log.open("ab") as file:
            file.write(b"more\n")
        assert process.wait(timeout=20) == 0
        assert process.stderr.read() == b""
    finally:
        process.kill()
        process.wait()
        process.stderr.close()
    if not from_file:
        pid = folder / "pid"
        if pid.exists():
            with pytest.raises(ProcessLookupError):
                os.kill(int(pid.read_text()), 0)
