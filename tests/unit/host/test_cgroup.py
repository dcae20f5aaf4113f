"""Reads of a cgroup and of the levels above it, from a tree of files; of /proc, from a tree of another host."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cgroup_preflight.core.reading import Known, Missing
from cgroup_preflight.host.cgroup import Observer, levels
from cgroup_preflight.host.fs import LiveFs
from cgroup_preflight.host.procfs import parse_stat
from cgroup_preflight.host.record import RecordingFs
from cgroup_preflight.host.snapshot import SnapshotFs
from cgroup_preflight.plan.expect import expectations
from cgroup_preflight.smoke.limits import read_limits
from tests.unit.core.making import settings_of
from tests.unit.smoke.fabricate import NUMBERS


@pytest.fixture
def tree(tmp_path):
    """Writes files below a cgroup mount; gives an observer of it."""

    def write(files):
        for path, text in files.items():
            place = tmp_path / path
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(text)
        return Observer(LiveFs(), str(tmp_path))

    return write


def test_limits_are_read_as_they_are(tree):
    seen = tree(
        {"a/b/memory.max": "67108864\n", "a/b/cpu.max": "max 100000\n", "a/b/cgroup.controllers": "cpuset memory\n"}
    )
    found = {
        item.expected.attribute: item
        for item in read_limits(
            seen, "b.service", "/a/b", expectations(settings_of(MemoryMax="64M", CPUQuota="50%", TasksMax="5"), NUMBERS)
        )
    }
    assert found["memory.max"].actual.value == "67108864\n"
    assert found["memory.max"].file == "a/b/memory.max"
    assert found["memory.max"].enabled is True
    assert found["cpu.max"].enabled is False, "cpuset is not cpu"
    assert isinstance(found["pids.max"].actual, Missing)


def test_the_effective_limit_is_the_minimum_over_the_chain(tree):
    """A child may have a larger limit than its parent; the parent's holds."""
    seen = tree(
        {
            "a/memory.max": "1000000\n",
            "a/b/memory.max": "max\n",
            "a/b/c/memory.max": "2000000\n",
            "a/cpu.max": "max 100000\n",
            "a/b/cpu.max": "50000 100000\n",
            "a/b/c/cpu.max": "100000 50000\n",
            "a/b/c/pids.max": "64\n",
            "pids.max": "100\n",
        }
    )
    found = seen.effective("/a/b/c")
    assert (found.memory_bytes, found.memory_at) == (1_000_000, "/a")
    assert (found.cpus, found.cpus_at) == (0.5, "/a/b")
    assert (found.tasks, found.tasks_at) == (64, "/a/b/c")


def test_no_limit_anywhere(tree):
    found = tree({"a/memory.max": "max\n", "a/cpu.max": "max 100000\n", "a/pids.max": "junk\n"}).effective("/a")
    assert (found.memory_bytes, found.cpus, found.tasks, found.memory_at) == (None, None, None, "")


def test_a_limit_of_zero_is_the_tightest(tree):
    assert tree({"a/memory.max": "0\n", "memory.max": "5\n"}).effective("/a").memory_bytes == 0


def test_equal_limits_belong_to_the_inner_level(tree):
    assert tree({"a/memory.max": "7\n", "a/b/memory.max": "7\n"}).effective("/a/b").memory_at == "/a/b"


def test_counters(tree):
    found = tree(
        {
            "a/cpu.stat": "usage_usec 5\nnr_throttled 2\nthrottled_usec 9\n",
            "a/memory.events": "oom_kill 1\n",
            "a/memory.peak": "4096\n",
            "a/memory.current": "max\n",
            "a/pids.events": "junk\n",
            "a/memory.pressure": "some avg10=1.50 avg60=0.00 avg300=0.00 total=7\n",
        }
    ).counters("/a")
    assert found.cpu_stat.value["throttled_usec"] == 9
    assert found.memory_events.value == {"oom_kill": 1}
    assert found.memory_peak.value == 4096
    assert isinstance(found.pids_events, Missing)
    assert found.pressure["memory"].value["some_avg10"] == 1.5
    assert isinstance(found.pressure["io"], Missing)


def test_processes_of_the_cgroup_and_below(tree):
    seen = tree(
        {
            "a/cgroup.procs": "10\n11\n",
            "a/b/cgroup.procs": "12\n",
            "a/b/c/cgroup.procs": "",
            "other/cgroup.procs": "99\n",
        }
    )
    assert seen.processes("/a") == {10, 11, 12}
    assert seen.processes("/none") == frozenset()
    assert seen.exists("/a")
    assert not seen.exists("/none")


@given(
    st.lists(st.text(alphabet="abc-.", min_size=1, max_size=5).filter(lambda part: part not in (".", "..")), max_size=6)
)
def test_levels_go_up_to_the_mount(parts):
    found = levels("/" + "/".join(parts))
    assert len(found) == len(parts) + 1
    assert found[-1] == ""
    for inner, outer in pairwise(found):
        assert inner.startswith(f"{outer}/")


@pytest.fixture
def proc(tmp_path):
    """A /proc with processes as (pid, parent, name, cgroup); gives an observer of that host."""

    def write(*processes):
        for pid, parent, name, cgroup in processes:
            folder = tmp_path / "proc" / str(pid)
            folder.mkdir(parents=True)
            (folder / "stat").write_bytes(
                b"%d (%s) S %d 1 1 0 -1 4194304 100 " % (pid, name, parent) + b"0 " * 14 + b"77\n"
            )
            (folder / "comm").write_bytes(name + b"\n")
            if cgroup is not None:
                (folder / "cgroup").write_bytes(b"0::" + cgroup + b"\n")
            (folder / "status").write_text("Name:\tx\nCpus_allowed:\tf\nCpus_allowed_list:\t0-3\n")
        return Observer(LiveFs(str(tmp_path)), "/sys/fs/cgroup")

    return write


def test_descendants_of_any_name_and_depth(proc):
    seen = proc(
        (1, 0, b"systemd", b"/init.scope"),
        (10, 1, b"web", b"/u"),
        (11, 10, b"a) R 1 (b", b"/u"),
        (12, 11, b") S 1 1", b"/elsewhere"),
        (13, 12, b"", b"/u/sub"),
        (20, 1, b"other", b"/v"),
    )
    found = seen.descendants(10, seen.children())
    assert set(found) == {10, 11, 12, 13}
    assert found[12].value == "/elsewhere"


@pytest.mark.parametrize("name", [b"\xff", b"caf\xe9", b"\xed\xa0\x80"])
def test_a_child_cannot_hide_behind_a_name_that_is_no_text(proc, name):
    """prctl(PR_SET_NAME) takes any bytes, and the name stands in /proc/PID/stat."""
    seen = proc((10, 1, b"web", b"/u"), (11, 10, name, b"/elsewhere"), (12, 11, b"grandchild", b"/elsewhere"))
    assert set(seen.descendants(10, seen.children())) == {10, 11, 12}


@pytest.mark.parametrize("cgroup", [b"/x\x0cy", b"/x\x85y", b"/x\xe2\x80\xa8y", b"/x\xffy"])
def test_a_child_cannot_hide_in_a_cgroup_of_a_strange_name(proc, cgroup):
    """Its place has to be known and other than the unit's."""
    seen = proc((10, 1, b"web", b"/u"), (11, 10, b"child", cgroup))
    reading = seen.descendants(10, seen.children())[11]
    assert isinstance(reading, Known)
    assert reading.value != "/u"


def test_what_one_process_shows(proc):
    seen = proc((10, 1, b"sleep", b"/u"), (11, 10, b"gone", None))
    assert seen.comm(10) == "sleep"
    assert seen.comm(99) == ""
    assert seen.is_in(10, "/u")
    assert not seen.is_in(10, "/u/sub")
    assert not seen.is_in(11, "/u")
    assert seen.allowed_cpus(10) == "0-3"
    assert seen.allowed_cpus(99) == ""
    assert isinstance(seen.descendants(10, seen.children())[11], Missing)


def test_what_is_held_is_read_through_that(tmp_path):
    folder = tmp_path / "a"
    folder.mkdir()
    (folder / "memory.max").write_text("64\n")
    seen = Observer(LiveFs(), str(tmp_path))
    seen.hold("/a", ("memory.max", "pids.max"))
    # As with a file that is mounted over it: the path leads elsewhere.
    (folder / "memory.max").rename(folder / "real")
    (folder / "memory.max").write_text("max\n")
    (folder / "pids.max").write_text("9\n")
    assert seen.read("/a", "memory.max").value == "64\n"
    assert seen.read("/a", "pids.max").value == "9\n"
    seen.release()
    assert seen.read("/a", "memory.max").value == "max\n"
    seen.release()


def test_a_folder_in_the_place_of_a_cgroup_is_noticed(tmp_path):
    """As with something that is mounted over it; a cgroup that is gone is not covered."""
    for name in ("a", "b", "c"):
        (tmp_path / name).mkdir()
    seen = Observer(LiveFs(), str(tmp_path))
    for cgroup in ("/a", "/b", "/c"):
        seen.hold(cgroup, ())
    (tmp_path / "a").rename(tmp_path / "real")
    (tmp_path / "a").mkdir()
    (tmp_path / "c").rmdir()
    assert [cgroup for cgroup in ("/a", "/b", "/c", "/never") if seen.is_covered(cgroup)] == ["/a"]
    seen.release()
    assert not seen.is_covered("/a")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("7 (a) b) S 3 1 1 0 -1 4194304 " + "0 " * 12 + "42 0", (3, "42", False)),
        ("7 (kworker/0:1) I 2 0 0 0 -1 69238880 " + "0 " * 12 + "42 0", (2, "42", True)),
    ],
)
def test_who_a_process_is(text, found):
    stat = parse_stat(text)
    assert (stat.parent, stat.started, stat.kernel) == found


@given(st.text(max_size=60))
def test_anything_else_is_no_stat(text):
    with pytest.raises(ValueError, match="stat"):
        parse_stat(text)


def test_a_command_line_is_printable_and_short(proc, tmp_path):
    seen = proc((10, 1, b"web", b"/u"), (11, 1, b"bare", b"/u"))
    (tmp_path / "proc" / "10" / "cmdline").write_bytes(b"/srv/web\0--x=\x1b[31m\xff\0" + b"y" * 500)
    assert seen.command(10).startswith("/srv/web --x=?[31m? yyy")
    assert len(seen.command(10)) == 120
    assert seen.command(11) == "bare"


def test_a_recording_is_observed_as_a_host_is(tmp_path):
    """Nothing is read ahead of it, and nothing that is not asked gets into it."""
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "memory.max").write_text("4096\n")
    fs = RecordingFs(LiveFs())
    found = Observer(fs, str(tmp_path)).effective("/a")
    assert (found.memory_bytes, found.memory_at, found.tasks) == (4096, "/a", None)
    assert Observer(SnapshotFs(fs.answers), str(tmp_path)).effective("/a") == found
