"""`diagnose` as a command: what is wrong with the call is one line, and a recording gives a report in each format."""

import json
from pathlib import Path

import pytest

from cgroup_preflight.cli import main
from cgroup_preflight.metrics.recording import recorded
from tests.unit.metrics.readings import HOST, contended, moment, sample


def _recording(folder: Path, *, calm: bool = False) -> str:
    path = str(folder / "readings.jsonl")
    with recorded(path) as writer:
        for number, item in enumerate(contended()):
            writer.add(moment(100 + number, {"/calm.service": sample("/calm.service", 100 + number)}) if calm else item)
    return path


def test_a_recording_gives_a_report_in_every_format(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    formats = ("json", "junit", "sarif", "codequality", "markdown")
    words = [word for name in formats for word in ("--format", f"{name}={tmp_path / name}")]
    assert (
        main(["diagnose", _recording(tmp_path), *words, "--format", "text", "--html", str(tmp_path / "page.html")]) == 1
    )
    out = capsys.readouterr().out
    assert out.startswith("FAIL: 1 cause of contention: CGP701 api.slice/a.service\n")
    assert "sudo systemctl set-property a.service CPUQuota=220%" in out
    report = json.loads((tmp_path / "json").read_text())
    (finding,) = report["findings"]
    assert (finding["code"], finding["subject"], finding["status"]) == ("CGP701", "api.slice/a.service", "fail")
    assert finding["evidence"]["rule"] == "C1"
    assert finding["evidence"]["confidence"] == "high"
    assert all("CGP701" in (tmp_path / name).read_text() for name in formats)
    assert "1 cause of contention" in (tmp_path / "page.html").read_text()


@pytest.mark.parametrize(("stolen", "found"), [(20, True), (2, False)])
def test_time_that_the_hypervisor_takes_is_a_cause_outside_this_host(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], stolen: int, found: bool
) -> None:
    """From /proc/stat of a recording to the report; `stolen` are ticks of the 200 that two CPUs have in a second."""
    path = str(tmp_path / "readings.jsonl")
    with recorded(path) as writer:
        for number in range(6):
            busy, steal = number * (200 - stolen), number * stolen
            stat = f"cpu  {busy} 0 0 0 0 0 0 {steal} 0 0\ncpu0 0 0\ncpu1 0 0\n".encode()
            calm = {"/calm.service": sample("/calm.service", 100 + number)}
            writer.add(moment(100 + number, calm, host={**HOST, "/proc/stat": stat}))
    assert main(["diagnose", path, "--format", f"json={tmp_path / 'json'}", "--format", "text"]) == int(found)
    findings = json.loads((tmp_path / "json").read_text())["findings"]
    stolen_time = [item for item in findings if item["code"] == "CGP705"]
    assert [item["status"] for item in stolen_time] == (["fail"] if found else [])
    assert ("the hypervisor took 10% of the CPU time of this machine" in capsys.readouterr().out) is found
    if found:
        assert (stolen_time[0]["evidence"]["rule"], stolen_time[0]["evidence"]["confidence"]) == ("C5", "high")


def test_no_contention_passes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["diagnose", _recording(tmp_path, calm=True)]) == 0
    assert capsys.readouterr().out.startswith("PASS: no contention\n")


def test_a_recording_that_was_cut_off_is_judged_and_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = Path(_recording(tmp_path, calm=True))
    path.write_bytes(path.read_bytes()[:-40])
    assert main(["diagnose", str(path)]) == 0
    out = capsys.readouterr().out
    assert "the recording is not whole" in out
    assert "PASS: no contention" in out


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--seconds", "0"], "--seconds: it must be from 1 to 3600"),
        (["--seconds", "nan"], "--seconds: it must be from 1 to 3600"),
        (["--depth", "-1"], "--depth: it must be from 0 to 16"),
        (["--watch", "--html", "x"], "--watch: it shows a table"),
        (["--watch", "--format", "json"], "--watch: it shows a table"),
        (["FILE", "--record", "x"], "--record: a recording is judged"),
        (["--trace", "http://192.0.2.1:6060"], "is not this machine's loopback address"),
        (["FILE", "a.service"], "a recording is judged alone"),
        (["FILE", "--trace", "http://127.0.0.1:1"], "a recording is of the past"),
        (["missing.jsonl"], "cannot read it: No such file or directory"),
        (["OTHER"], "it is not a recording of diagnose"),
        (["FILE", "--trace", "OTHER"], "it is not a Go execution trace"),
    ],
)
def test_a_wrong_call_is_one_line_and_status_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], says: str
) -> None:
    other = tmp_path / "other.json"
    other.write_text("{}\n")
    names = {"FILE": _recording(tmp_path), "OTHER": str(other)}
    assert main(["diagnose", *(names.get(word, word) for word in words)]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    first, *rest = captured.err.splitlines()
    assert says in first
    assert rest[0].startswith("  next: ")


def test_a_trace_of_another_program_leaves_the_rest_of_the_answer(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from tests.unit.golang.traces import START, batch, events, trace

    file = tmp_path / "x.trace"
    file.write_bytes(trace(batch(5, 99 * 10**9 // 64, events((START, 10**8 // 64, 1, 1), (20, 5 * 10**9 // 64, 0, 0)))))
    assert main(["diagnose", _recording(tmp_path), "--trace", str(file)]) == 1
    out = capsys.readouterr().out
    assert out.startswith("FAIL: 1 cause of contention: CGP701 api.slice/a.service; 1 question open: CGP734 ")
    assert "the trace was not used: it is of another program" in out
    assert main(["diagnose", _recording(tmp_path, calm=True), "--trace", str(file)]) == 3
    assert capsys.readouterr().out.startswith("UNVERIFIED: no verdict, 1 question open: CGP734 ")
