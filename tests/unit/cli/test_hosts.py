"""`--host`: several hosts over ssh, each with its own outcome. The `ssh` here runs what it is told on this machine."""

import json
import os
import re
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path

import pytest

from cgroup_preflight.cli import hosts, main
from cgroup_preflight.cli.hosts_exporter import joined
from cgroup_preflight.core.errors import HostError, UsageError
from cgroup_preflight.core.report import Remedy
from tests.unit.host.remote.ends import SFTP_SERVER
from tests.unit.metrics.conftest import cgroups  # noqa: F401 - a fixture
from tests.unit.stated import round_trips

pytestmark = pytest.mark.starts_processes

SSH = """\
#!/bin/sh
printf '%s\\n' "$*" >> {log}
while [ "$1" != -- ]; do [ "$1" = -s ] && files=1; shift; done
name=$2; shift 2
case $name in
dead*) echo "ssh: connect to host $name port 22: Connection refused" >&2; exit 255;;
silent*) exec python3 -c 'import time; time.sleep(300) # silence {log}';;
nologin) echo 'This account is currently not available.'; exit 1;;
cut*) [ -z "$files" ] && server=sh || server="{server}"
  [ -z "$server" ] || $server | {{ dd bs=1 count=${{name#cut}} status=none; kill -9 0; }};;
noisy) echo 'Welcome!'; echo 'banner' >&2;;
esac
if [ -n "$files" ]; then
  [ -n "{server}" ] && [ "$name" != plain ] && exec {server}
  echo 'subsystem request failed on channel 0' >&2; exit 1
fi
exec sh -c "$*"
"""


@pytest.fixture(autouse=True)
def ssh(tmp_path, monkeypatch) -> Path:
    folder, log = tmp_path / "bin", tmp_path / "ssh.log"
    folder.mkdir()
    (folder / "ssh").write_text(SSH.format(log=log, server=SFTP_SERVER))
    (folder / "ssh").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.setattr(hosts, "control_folder", lambda: "")
    monkeypatch.chdir(tmp_path)
    return log


def report(tmp_path: Path, *words: str) -> tuple[int, dict]:
    status = main([*words, "--format", f"json={tmp_path}/report.json"])
    return status, json.loads((tmp_path / "report.json").read_text())


def test_each_host_has_its_own_verdict_and_findings(tmp_path, capsys):
    _, here = report(tmp_path, "check")
    status, found = report(
        tmp_path, "check", "--host", "web1", "--host", "dead", "--host", "me@noisy", "--host", "plain"
    )
    own = {item["subject"]: item for item in found["findings"] if item["code"] == "CGP129"}
    assert set(own) == {"web1", "dead", "me@noisy", "plain"}
    assert own["dead"]["status"] == "unverified"
    assert "Connection refused" in own["dead"]["message"]
    assert own["dead"]["remedies"][0]["commands"] == [["ssh", "-o", "BatchMode=yes", "--", "dead", "true"]]
    for name in ("web1", "me@noisy", "plain"):
        assert own[name]["evidence"]["verdict"] == here["verdict"]
        assert own[name]["evidence"]["round_trips"] <= round_trips()["`check`"][0]
        mine = [item for item in found["findings"] if item["evidence"].get("host") == name and item["code"] != "CGP129"]
        assert [item["code"] for item in mine] == [item["code"] for item in here["findings"]]
        assert [item["subject"] for item in mine] == [f"{name}: {item['subject']}" for item in here["findings"]]
        assert [item["status"] for item in mine] == [item["status"] for item in here["findings"]]
    assert status == {"fail": 1, "unverified": 3, "pass": 3}[here["verdict"]]
    assert "dead: it was not judged" in capsys.readouterr().out


TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", re.ASCII)


def test_what_was_read_says_of_which_host_and_when(tmp_path, capsys, monkeypatch, cgroups):  # noqa: F811
    _, found = report(tmp_path, "check", "--host", "web1", "--host", "dead")
    own = {item["subject"]: item for item in found["findings"] if item["code"] == "CGP129"}
    for name, key in (("web1", "read_at"), ("dead", "asked_at")):
        assert own[name]["evidence"]["host"] == name
        assert TIME.fullmatch(own[name]["evidence"][key])
        assert f"over ssh at {own[name]['evidence'][key]}" in own[name]["message"]
    capsys.readouterr()
    assert main(["snapshot", "--host", "me@web1", "-o", "one.json"]) == 0
    assert re.fullmatch(rf"cgroup-preflight: recorded me@web1 at {TIME.pattern}: one.json\n", capsys.readouterr().err)
    assert main(["snapshot", "--host", "me@web1"]) == 0
    told = capsys.readouterr()
    recording = json.loads(told.out)
    assert (recording["recorded_over"], bool(TIME.fullmatch(recording["recorded_at"]))) == ("ssh", True)
    assert "web1" not in told.out, "names of hosts are replaced in a recording"
    assert re.fullmatch(rf"cgroup-preflight: recorded me@web1 at {TIME.pattern}\n", told.err)
    monkeypatch.setattr("cgroup_preflight.metrics.asked.cgroup_mount", lambda fs: str(cgroups.top))
    assert main(["exporter", "--once", "--host", "web1"]) == 0
    when = re.search(
        r'^slice_exporter_snapshot_timestamp_seconds\{host="web1"\} (\S+)$', capsys.readouterr().out, re.MULTILINE
    )
    assert abs(float(when[1]) - time.time()) < 60


def test_a_host_that_is_not_reached_is_never_a_pass(tmp_path):
    for name, words in (("dead", "Connection refused"), ("nologin", "it says: This account")):
        status, found = report(tmp_path, "check", "--host", name)
        assert (status, found["verdict"]) == (3, "unverified"), name
        assert [item["code"] for item in found["findings"]] == ["CGP129"]
        assert words in found["findings"][0]["message"]


@pytest.mark.parametrize("size", [0, 60, 300, 3000, 50000])
def test_a_connection_that_breaks_anywhere_is_unverified_or_was_not_needed_any_more(tmp_path, size):
    _, whole = report(tmp_path, "check", "--host", "web1")
    status, found = report(tmp_path, "check", "--host", f"cut{size}")
    own = found["findings"][0]
    if "it was not judged" in own["message"]:
        assert (status, found["verdict"], len(found["findings"])) == (3, "unverified", 1)
    else:
        assert size > 1000
        assert [(item["code"], item["status"]) for item in found["findings"]] == [
            (item["code"], item["status"]) for item in whole["findings"]
        ]


def test_ssh_is_called_without_questions_and_with_the_name_apart(tmp_path, ssh):
    report(tmp_path, "check", "--host", "me@web1", "--ssh-config", "my config")
    calls = ssh.read_text().splitlines()
    assert calls
    for call in calls:
        assert "-F my config -T " in call
        assert "-o BatchMode=yes" in call
        assert "-o ServerAliveInterval=10" in call
        assert call.partition(" -- ")[2] in ("me@web1 sh", "me@web1 sftp")


@pytest.mark.parametrize(
    "name", ["-oProxyCommand=x", "a b", "a;b", "@a", "a@", "", "a@b@c", "$(id)", "ü", "a/b", "-a@b", "a\nb"]
)
def test_a_name_that_is_none_is_refused_before_anything_runs(name, ssh, capsys):
    assert main(["check", f"--host={name}"]) == 2
    assert "not the name of a host" in capsys.readouterr().err
    assert not ssh.exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["check", "--host", "a", "--host", "a"], "named twice"),
        (["check", "--host", "a", "--root", "x"], "--root judges a recording"),
        (["exporter", "--host", "a"], "reads once and serves nothing"),
        (["diagnose", "--host", "a", "--watch"], "no trace, no live table"),
        (["snapshot", "--host", "a", "--host", "b"], "several recordings need a folder"),
    ],
)
def test_calls_that_cannot_be_meant_are_refused(words, said, ssh, capsys):
    assert main(words) == 2
    assert said in capsys.readouterr().err
    assert not ssh.exists()


def test_a_recording_over_ssh_is_that_of_the_host_itself(tmp_path):
    assert main(["snapshot", "-o", "here.json"]) == 0
    assert main(["snapshot", "--host", "web1", "-o", "there.json"]) == 0
    here, there = (json.loads((tmp_path / name).read_text()) for name in ("here.json", "there.json"))
    assert there.keys() - here.keys() == {"recorded_over"}
    assert here["host"].keys() == there["host"].keys()
    changing = ("meminfo", "cpu.stat", "pressure", "stat")
    for question, entry in here["host"].items():
        if not question.endswith(changing):
            assert there["host"][question] == entry, question
    assert here["commands"] == there["commands"]
    assert main(["check", "--root", "there.json", "--exit-zero"]) == 0


def test_recordings_of_several_hosts_go_to_a_folder_and_a_missing_one_is_named(tmp_path, capsys):
    assert main(["snapshot", "--host", "web1", "--host", "dead", "--host", "me@web2", "-o", "all"]) == 3
    assert sorted(os.listdir(tmp_path / "all")) == ["me@web2.json", "web1.json"]
    assert "dead: " in capsys.readouterr().err


def test_many_hosts_are_asked_at_the_same_time_but_not_all():
    running, most = [0], [0]

    def work(host: hosts.Remote) -> str:
        running[0] += 1
        most[0] = max(most[0], running[0])
        time.sleep(0.05)
        running[0] -= 1
        if host.name == "h3":
            raise HostError("no", remedy=Remedy(title="-"))
        return host.name

    found = hosts.each(hosts.remotes([f"h{number}" for number in range(30)], ""), work)
    assert [item.host for item in found] == [f"h{number}" for number in range(30)]
    assert [item.value for item in found if item.error is None] == [f"h{n}" for n in range(30) if n != 3]
    assert 2 <= most[0] <= 8


def test_a_defect_is_raised_and_every_ssh_ends():
    def work(host: hosts.Remote) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        hosts.each(hosts.remotes(["a", "b"], ""), work)


def test_after_a_defect_no_thread_begins_with_another_host():
    begun: list[str] = []

    def work(host: hosts.Remote) -> None:
        begun.append(host.name)
        if host.name == "h0":
            raise ZeroDivisionError
        time.sleep(0.5)

    with pytest.raises(ZeroDivisionError):
        hosts.each(hosts.remotes([f"h{number}" for number in range(40)], ""), work)
    time.sleep(0.8)
    assert len(begun) <= 9


def test_a_signal_while_the_threads_still_start_ends_every_ssh(monkeypatch):
    class Starting(threading.Thread):
        def start(self) -> None:
            super().start()
            raise KeyboardInterrupt

    asked = hosts.remotes(["a", "b"], "")
    abandoned: list[str] = []
    for host in asked:
        monkeypatch.setattr(host.lines, "abandon", partial(abandoned.append, host.name))
    monkeypatch.setattr(threading, "Thread", Starting)
    with pytest.raises(KeyboardInterrupt):
        hosts.each(asked, lambda host: host.name)
    assert abandoned == ["a", "b"]


def test_metrics_of_several_hosts_are_one_page():
    one = b'# HELP a_total A.\n# TYPE a_total counter\na_total{slice="x"} 1\na_total{slice="y{"} 2\n# HELP b B.\n# TYPE b gauge\nb 3\n'
    two = b"# HELP b B.\n# TYPE b gauge\nb 4\n# HELP c C.\n# TYPE c gauge\n"
    assert joined([("h1", one), ("u@h2", two)]) == (
        b'# HELP a_total A.\n# TYPE a_total counter\na_total{host="h1",slice="x"} 1\na_total{host="h1",slice="y{"} 2\n'
        b'# HELP b B.\n# TYPE b gauge\nb{host="h1"} 3\nb{host="u@h2"} 4\n# HELP c C.\n# TYPE c gauge\n'
    )
    assert joined([]) == b""
    odd = b'# HELP b B.\n# TYPE b gauge\nb{slice="x\ry{z"} 3\n'
    assert joined([("h", odd)]) == odd.replace(b"{slice", b'{host="h",slice')


def test_a_host_without_cgroup_v2_or_journal_says_so(capsys):
    for words in (["exporter", "--once", "--host", "dead"], ["logs", "--host", "dead", "system.slice"]):
        assert main(words) == 3
        assert "dead: " in capsys.readouterr().err
    with pytest.raises(UsageError):
        hosts.remotes(["a", "-b"], "")


def test_a_check_of_this_host_loads_nothing_of_other_hosts():
    code = (
        "import sys; from cgroup_preflight.cli import main; main(['check', '--exit-zero', '--output', '/dev/null', '--format', "
        "'json']); print([name for name in sys.modules if 'remote' in name or 'hosts' in name])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "[]\n"


def test_a_signal_ends_the_command_and_every_ssh_while_a_host_is_silent(tmp_path, ssh):
    """A host that never answers must not keep anybody from ending the command."""
    argv = [sys.executable, "-m", "cgroup_preflight", "check", "--host", "silent1", "--host", "silent2"]
    with subprocess.Popen(argv, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as process:
        until = time.monotonic() + 60
        while not ssh.exists() or len(ssh.read_text().splitlines()) < 2:
            assert time.monotonic() < until
            time.sleep(0.05)
        process.terminate()
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 143
    assert "terminated" in errors
    while time.monotonic() < until and _sleeps(f"silence {ssh}"):
        time.sleep(0.05)
    assert not _sleeps(f"silence {ssh}")


def _sleeps(word: str) -> bool:
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            if word.encode() in Path(f"/proc/{pid}/cmdline").read_bytes():
                return True
        except OSError:
            continue
    return False
