"""The siblings of a cgroup: weights, quotas, idle, those without processes, and what a recording keeps of them."""

from pathlib import Path

from cgroup_preflight.core.reading import Known, Missing
from cgroup_preflight.host.fs import LiveFs
from cgroup_preflight.host.record import RecordingFs
from cgroup_preflight.host.redact import needed
from cgroup_preflight.host.siblings import Sibling, read_siblings


def cgroup(root: Path, path: str, **files: str) -> None:
    folder = root / path.strip("/")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "cgroup.procs").write_text("")
    for name, text in files.items():
        (folder / name.replace("_", ".")).write_text(text)


def test_weight_quota_and_idle_are_read(tmp_path: Path) -> None:
    cgroup(tmp_path, "/m")
    busy = "populated 1\nfrozen 0\n"
    cgroup(tmp_path, "/m/a.slice", cgroup_events=busy, cpu_weight="2500\n", cpu_max="max 100000\n", cpu_idle="0\n")
    cgroup(tmp_path, "/m/b.slice", cgroup_events=busy, cpu_weight="1\n", cpu_max="50000 100000\n", cpu_idle="1\n")
    cgroup(tmp_path, "/m/c.scope", cgroup_events=busy)
    cgroup(tmp_path, "/m/empty.slice", cgroup_events="populated 0\n", cpu_weight="100\n")
    cgroup(tmp_path, "/m/secret-container", cgroup_events=busy, cpu_weight="100\n")
    found = read_siblings(LiveFs(str(tmp_path)), "/m/", "")
    assert found == Known(
        value=(
            Sibling(name="a.slice", weight=2500),
            Sibling(name="b.slice", weight=0, quota=(50000, 100000)),
            Sibling(name="c.scope", weight=100),
        ),
        source="/m",
    )


def test_malformed_files_are_the_defaults(tmp_path: Path) -> None:
    cgroup(tmp_path, "/m/a.slice", cgroup_events="populated 1\n", cpu_weight="-1\n", cpu_max="x", cpu_idle="\x1b[31m")
    found = read_siblings(LiveFs(str(tmp_path)), "/m", "")
    assert isinstance(found, Known)
    assert found.value == (Sibling(name="a.slice", weight=100),)


def test_no_cgroup_is_missing_and_not_empty(tmp_path: Path) -> None:
    assert isinstance(read_siblings(LiveFs(str(tmp_path)), "/m", ""), Missing)


def test_a_recording_keeps_the_names_of_units_alone(tmp_path: Path) -> None:
    cgroup(tmp_path, "/m")
    cgroup(tmp_path, "/m/a.slice", cgroup_events="populated 1\n")
    cgroup(tmp_path, "/m/secret-container", cgroup_events="populated 1\n")
    fs = RecordingFs(LiveFs(str(tmp_path)))
    read_siblings(fs, "/m", "")
    kept = {question: needed(question, entry) for question, entry in fs.answers.items()}
    assert kept["names /m"] == {"value": ["a.slice"]}
    assert not any("secret" in question for question in kept)
    other = {"value": ["cgroup.procs", "cpu.max"]}
    assert needed("names /m cgroup.,cpu.", other) == other
