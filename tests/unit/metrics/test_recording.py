"""Recordings: what is written is read again; a file from elsewhere is not trusted, and what a cut one has is kept."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cgroup_preflight.core.errors import UsageError
from cgroup_preflight.metrics import recording as recording_module
from cgroup_preflight.metrics.contention import judge
from cgroup_preflight.metrics.recording import load, recorded
from cgroup_preflight.metrics.series import series_of
from tests.unit.metrics.readings import contended, moment


def _written(folder: Path, count: int = 4) -> Path:
    path = folder / "readings.jsonl"
    with recorded(str(path)) as writer:
        for item in contended(count):
            writer.add(item)
    return path


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    found = load(str(_written(tmp_path)))
    assert found.cut == ""
    assert found.moments == tuple(contended(4))


def test_bytes_that_are_no_text_survive(tmp_path: Path) -> None:
    readings = contended(2)
    readings[1].snapshot.samples["/api.slice"].files["cpu.max"] = b"\xff\x00\xe2\x82"  # type: ignore[index]
    path = tmp_path / "readings.jsonl"
    with recorded(str(path)) as writer:
        for item in readings:
            writer.add(item)
    assert load(str(path)).moments == tuple(readings)


def test_a_recording_that_was_cut_off_keeps_what_it_has(tmp_path: Path) -> None:
    path = _written(tmp_path)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:-1]))
    assert (len(load(str(path)).moments), load(str(path)).cut) == (4, "it ends before its last line")
    path.write_bytes(b"".join(lines[:4]) + lines[4][:100])
    assert (len(load(str(path)).moments), load(str(path)).cut) == (3, "line 5: cut off")
    path.write_bytes(b"".join(lines[:2]))
    with pytest.raises(UsageError, match="it ends before its last line: 1 readings, and two are needed"):
        load(str(path))


def test_a_recording_stays_when_the_run_is_interrupted(tmp_path: Path) -> None:
    path = tmp_path / "readings.jsonl"
    with pytest.raises(KeyboardInterrupt), recorded(str(path)) as writer:
        for item in contended(3):
            writer.add(item)
        raise KeyboardInterrupt
    assert len(load(str(path)).moments) == 3


@pytest.mark.parametrize(
    ("head", "says"),
    [
        ({"format": "cgroup-preflight-readings", "version": 2}, "it has version 2, and this program reads version 1"),
        ({"format": "cgroup-preflight-readings", "version": "\x1b[2J"}, "it has version unknown"),
        ({"format": "cgroup-preflight-readings", "version": 10**400}, "it has version unknown"),
        ({"format": "something"}, "it is not a recording of diagnose"),
        ([], "it is not a recording of diagnose"),
    ],
)
def test_another_version_or_another_file_is_refused(tmp_path: Path, head: Any, says: str) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text(json.dumps(head)[:4000] + "\n" if not isinstance(head, dict) or head.get("version") != 10**400
                    else '{"format":"cgroup-preflight-readings","version":' + "9" * 400 + "}\n")  # fmt: skip
    with pytest.raises(UsageError, match=says):
        load(str(path))


@pytest.mark.parametrize("name", ["missing", "folder"])
def test_what_cannot_be_read_is_one_clear_line(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(UsageError, match=r"cannot read it|not a regular file"):
        load(str(tmp_path / name))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("stamp",), -1), (("stamp",), True), (("stamp",), 2**63), (("wall",), "now"), (("cgroups",), []),
        (("cgroups", "/api.slice", "files", "cpu.max"), 5), (("cgroups", "/api.slice", "files", "cpu.max"), "\ud800"),
        (("cgroups", "/api.slice", "files"), {f"a.b{'c' * n}": "" for n in range(65)}),
        (("cgroups", "../etc"), {}), (("cgroups", "/a/../b"), {"id": 1, "stamp": 1, "files": {}, "errors": {}}),
        (("threads", "/api.slice"), [-1]), (("threads", "/api.slice"), "x"), (("errors",), {"x": None}),
        (("cgroups", "/api.slice", "files", "cpu.max"), "x" * (65 << 10)),
    ],
)  # fmt: skip
def test_a_value_of_another_kind_ends_the_recording_there(tmp_path: Path, path: tuple[str, ...], value: Any) -> None:
    file = _written(tmp_path)
    lines = file.read_text().splitlines()
    entry = json.loads(lines[3])
    place = entry
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    file.write_text("\n".join([*lines[:3], json.dumps(entry), *lines[4:], ""]))
    found = load(str(file))
    assert len(found.moments) == 2
    assert found.cut.startswith("line 4: ")


@pytest.mark.parametrize(
    ("bound", "most", "says"),
    [
        ("_MEMORY_MAX", 40_000, "the readings up to here take"),
        ("_WORDS_MAX", 10, "words in the files of a reading"),
        ("_TOKENS_MAX", 20, "values"),
    ],
)
def test_a_recording_that_would_take_too_much_memory_ends_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bound: str, most: int, says: str
) -> None:
    path = _written(tmp_path, 40)
    assert load(str(path)).cut == ""
    monkeypatch.setattr(recording_module, bound, most)
    if bound == "_MEMORY_MAX":
        found = load(str(path))
        assert 2 <= len(found.moments) < 40
        assert found.cut.startswith(f"line {len(found.moments) + 2}: {says}")
    else:
        with pytest.raises(UsageError, match=says):
            load(str(path))


def test_texts_that_did_not_change_are_kept_once(tmp_path: Path) -> None:
    first, second = (moment.snapshot.samples["/api.slice"].files for moment in load(str(_written(tmp_path, 2))).moments)
    same = [name for name in first if first[name] == second[name]]
    assert same
    assert all(first[name] is second[name] for name in same)


@settings(max_examples=60)
@given(st.data())
def test_damaged_recordings_are_read_or_refused_and_never_a_defect(tmp_path_factory: Any, data: st.DataObject) -> None:
    path = _written(tmp_path_factory.mktemp("r"))
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, len(content) - 1))
        content[at : at + data.draw(st.integers(0, 40))] = data.draw(st.binary(max_size=20))
    path.write_bytes(bytes(content))
    try:
        assert len(load(str(path)).moments) >= 2
    except UsageError as error:
        assert "\n" not in str(error)


@pytest.mark.parametrize("name", ["cpu.stat", "cpu.stat.local", "cpu.max", "cpu.pressure", "pids.current"])
def test_a_number_that_no_kernel_writes_ends_the_recording_there(tmp_path: Path, name: str) -> None:
    """Numbers are divided as floats later, and one of 400 digits would be an error there."""
    readings = contended(6)
    for number, digits in ((1, "9" * 20), (4, "9" * 400)):
        text = {
            "cpu.stat": f"usage_usec {digits}\n", "cpu.stat.local": f"throttled_usec {digits}\n", "cpu.max": f"{digits} 100000\n",
            "cpu.pressure": f"some total={digits}\nfull total=0\n", "pids.current": f"{digits}\n",
        }[name]  # fmt: skip
        readings[number].snapshot.samples["/api.slice/a.service"].files[name] = text.encode()  # type: ignore[index]
    path = tmp_path / "readings.jsonl"
    with recorded(str(path)) as writer:
        for item in readings:
            writer.add(item)
    found = load(str(path))
    assert (len(found.moments), found.cut) == (4, "line 6: a number in a file has more than 20 digits")
    judge(series_of(found.moments))


def test_readings_that_are_far_apart_end_the_recording_there(tmp_path: Path) -> None:
    """What is judged with a trace takes memory for each tenth of a second."""
    path = tmp_path / "readings.jsonl"
    samples = contended(2)[0].snapshot.samples
    with recorded(str(path)) as writer:
        for seconds in (100, 101, 3700, 9 * 10**9):
            writer.add(moment(seconds, samples))
    found = load(str(path))
    assert (len(found.moments), found.cut) == (3, "line 5: more than three hours after the first reading")


def test_a_file_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot write"), recorded(str(tmp_path / "no" / "x")):
        pass


def test_a_full_disk_costs_the_recording_and_not_the_answer() -> None:
    with recorded("/dev/full") as writer:
        for item in contended(3):
            writer.add(item)
    assert writer.problem == "No space left on device"
