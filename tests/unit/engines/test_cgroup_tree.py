"""A run's cgroups on a kernel that is played: what is written, in which order, and that nothing is left."""

import os
import signal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cgroup_preflight.core.errors import HostError
from cgroup_preflight.engines.cgroup_tree import LEAF, Subtree
from cgroup_preflight.host.local import LocalClock
from cgroup_preflight.plan.cgroup_files import Attribute
from tests.unit.engines.cgroup_kernel import PlayedCgroups

MEMORY = Attribute(file="memory.max", text="1048576", controller="memory")
BASE = "/job"


class QuickClock(LocalClock):
    """Time passes when somebody waits."""

    now = 0.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def kernel(tmp_path):
    top = PlayedCgroups(tmp_path, root=True)
    for name in ("cpu", "memory", "pids"):
        top.write(f"{tmp_path}/cgroup.subtree_control", f"+{name}")
    top.make(f"{tmp_path}{BASE}")
    top.make(f"{tmp_path}/neighbour")
    top.put("/neighbour", 9_000_001)
    top.written.clear()
    return top


def subtree(kernel: PlayedCgroups, base: str = BASE) -> Subtree:
    return Subtree(kernel, QuickClock(), kernel.mount, base)


def tree_of(kernel: PlayedCgroups) -> dict[str, tuple[str, ...]]:
    """Every cgroup, with its processes and enabled controllers."""
    return {
        top.removeprefix(kernel.mount): (
            kernel.read(f"{top}/cgroup.procs"),
            kernel.read(f"{top}/cgroup.subtree_control").strip(),
        )
        for top, _, _ in os.walk(kernel.mount)
    }  # fmt: skip


def test_controllers_are_enabled_level_by_level_and_limits_are_written_before_anything_runs(kernel):
    tree = subtree(kernel)
    tree.prepare(["cpu", "memory"])
    tree.add("/job/run.slice", [MEMORY], ["cpu", "memory"])
    tree.add("/job/run.slice/a.service", [MEMORY])
    assert kernel.written == [
        ("/job", "cgroup.subtree_control", "+cpu"),
        ("/job", "cgroup.subtree_control", "+memory"),
        ("/job/run.slice", "memory.max", "1048576"),
        ("/job/run.slice", "cgroup.subtree_control", "+cpu"),
        ("/job/run.slice", "cgroup.subtree_control", "+memory"),
        ("/job/run.slice/a.service", "memory.max", "1048576"),
    ]


def test_the_processes_of_the_job_go_into_a_leaf_and_back(kernel):
    kernel.put(BASE, 9_000_010, 9_000_011)
    before = tree_of(kernel)
    tree = subtree(kernel)
    enabled = tree.prepare(["memory"])
    assert kernel.pids(BASE) == []
    assert kernel.pids(f"{BASE}/{LEAF}") == [9_000_010, 9_000_011]
    assert tree.restore(enabled) == ()
    assert tree_of(kernel) == before


def test_a_base_that_has_the_controllers_already_stays_as_it_is(kernel):
    for name in ("cpu", "memory"):
        kernel.write(f"{kernel.mount}{BASE}/cgroup.subtree_control", f"+{name}")
    kernel.written.clear()
    tree = subtree(kernel)
    assert tree.prepare(["memory"]) == ()
    assert tree.restore(()) == ()
    assert kernel.written == []


def test_only_what_this_run_enabled_is_disabled(kernel):
    kernel.write(f"{kernel.mount}{BASE}/cgroup.subtree_control", "+pids")
    tree = subtree(kernel)
    tree.restore(tree.prepare(["memory", "pids"]))
    assert tree_of(kernel)[BASE] == ("", "pids")


def test_the_real_root_keeps_its_processes(tmp_path):
    kernel = PlayedCgroups(tmp_path, root=True)
    kernel.put("", 9_000_020)
    tree = subtree(kernel, "")
    enabled = tree.prepare(["memory"])
    tree.add("/run.slice", [MEMORY])
    assert kernel.pids("") == [9_000_020]
    tree.remove("/run.slice", 1)
    assert tree.restore(enabled) == ()
    assert tree_of(kernel) == {"": ("9000020\n", "")}


def test_a_controller_that_is_missing_is_named_with_its_level(kernel):
    with pytest.raises(HostError, match=r"/job: cpuset is missing in cgroup\.controllers at this level"):
        subtree(kernel).prepare(["cpuset", "memory"])
    assert kernel.written == []


def test_a_limit_without_its_controller_names_the_level(kernel):
    tree = subtree(kernel)
    tree.prepare(["cpu"])
    with pytest.raises(HostError, match=r"/job/run.slice: memory is missing"):
        tree.add("/job/run.slice", [MEMORY])


@pytest.mark.parametrize("file", ["memory.swap.max", "cpu.weight"])
def test_what_only_some_kernels_have_is_left_to_the_proof(kernel, file):
    tree = subtree(kernel)
    tree.prepare([])
    tree.add("/job/run.slice", [Attribute(file=file, text="1", controller="cpu", share=file.startswith("cpu"))])
    assert tree.exists("/job/run.slice")


def test_a_process_of_another_pid_namespace_stays_and_is_said(kernel):
    with open(f"{kernel.mount}{BASE}/cgroup.procs", "w") as file:
        file.write("0\n")
    with pytest.raises(HostError, match="another PID namespace"):
        subtree(kernel).prepare(["memory"])


@pytest.mark.parametrize("cgroup", ["/neighbour", "/job/../neighbour", "/jobs", "", "/job//x", "/job/./x"])
def test_nothing_outside_the_base_can_be_named(kernel, cgroup):
    tree = subtree(kernel)
    with pytest.raises(ValueError, match="is not below /job"):
        tree.add(cgroup, [])
    with pytest.raises(ValueError, match="is not below /job"):
        tree.write(cgroup, "memory.max", "1")


def test_a_cgroup_is_removed_with_what_runs_in_it(kernel):
    tree = subtree(kernel)
    tree.prepare(["memory"])
    tree.add("/job/run.slice", [], ["memory"])
    tree.add("/job/run.slice/a.service", [])
    kernel.put("/job/run.slice/a.service", 9_000_030)
    tree.remove("/job/run.slice", 1)
    assert not tree.exists("/job/run.slice")
    assert (9_000_030, signal.SIGKILL) in kernel.signals


def test_without_cgroup_kill_processes_are_killed_one_by_one(kernel):
    tree = subtree(kernel)
    tree.prepare([])
    tree.add("/job/run.slice", [])
    os.unlink(f"{kernel.mount}/job/run.slice/cgroup.kill")
    kernel.put("/job/run.slice", 9_000_040, 9_000_041)
    tree.kill("/job/run.slice")
    assert kernel.signals == [(9_000_040, signal.SIGKILL), (9_000_041, signal.SIGKILL)]


def test_a_process_of_another_pid_namespace_takes_no_signal_because_its_number_would_name_this_tool(kernel):
    """A crashed run of another container, on a kernel without cgroup.kill: kill(0) ends the group of the caller."""
    tree = subtree(kernel)
    tree.prepare([])
    tree.add("/job/run.slice", [])
    os.unlink(f"{kernel.mount}/job/run.slice/cgroup.kill")
    kernel.put("/job/run.slice", 0, 9_000_042)
    tree.signal("/job/run.slice", signal.SIGTERM)
    tree.kill("/job/run.slice")
    assert {pid for pid, _ in kernel.signals} == {9_000_042}


def test_what_a_crashed_run_left_is_cleaned_by_the_next(kernel):
    kernel.put(BASE, 9_000_050)
    before = tree_of(kernel)
    subtree(kernel).prepare(["memory"])
    assert subtree(kernel).restore(()) == ()
    assert tree_of(kernel) == before


names = st.lists(st.sampled_from(["a", "b", "c-d"]), min_size=1, max_size=3)


@settings(max_examples=30, deadline=None)
@given(
    ways=st.lists(names, max_size=4), controllers=st.sets(st.sampled_from(["cpu", "memory", "pids"])),
    count=st.integers(0, 3),
)  # fmt: skip
def test_whatever_a_run_makes_the_rules_are_kept_and_nothing_is_left(tmp_path_factory, ways, controllers, count):
    kernel = PlayedCgroups(tmp_path_factory.mktemp("cgroup"), root=True)
    for name in ("cpu", "memory", "pids"):
        kernel.write(f"{kernel.mount}/cgroup.subtree_control", f"+{name}")
    kernel.make(f"{kernel.mount}{BASE}")
    kernel.put(BASE, *range(9_000_100, 9_000_100 + count))
    before = tree_of(kernel)
    tree = subtree(kernel)
    kernel.written.clear()
    # The played kernel refuses what breaks a rule.
    enabled = tree.prepare(controllers)
    made = []
    below = ["/".join(("run.slice", *way[: end + 1])) for way in ways for end in range(len(way))]
    for name in ["run.slice", *below]:
        if not tree.exists(cgroup := f"{BASE}/{name}"):
            tree.add(cgroup, [MEMORY] if "memory" in controllers else [], controllers)
            made.append(cgroup)
    assert all(cgroup == BASE or cgroup.startswith(f"{BASE}/") for cgroup, _, _ in kernel.written)
    # A level has its limits before it enables anything for the one below.
    for cgroup in made:
        mine = [name for where, name, _ in kernel.written if where == cgroup]
        assert mine == sorted(mine, key=lambda name: name == "cgroup.subtree_control")
    tree.remove(f"{BASE}/run.slice", 1)
    assert tree.restore(enabled) == ()
    assert tree_of(kernel) == before
