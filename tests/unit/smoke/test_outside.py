"""Processes of services outside of the run, however they are parented; and others, which do not count."""

import signal

import pytest

from cgroup_preflight.core.report import Status
from cgroup_preflight.smoke.outside import Outside, Stray, outside_findings
from tests.unit.engines.machine import Machine, Program, Unit, Units
from tests.unit.smoke.test_services import JOB, URL, WEB, Trial, statuses

RUN = "/cgpf0123456789ab.slice/cgpf0123456789ab-web.service"
UNIT = "cgpf0123456789ab-web.service"
TOP = "/cgpf0123456789ab.slice"
BIG = "cgpf0123456789ab-big.service"
NEIGHBOUR = f"{TOP}/{BIG}"


class Played:
    """A machine with PID 1 and one other process, and one unit of a run."""

    def __init__(self, tmp_path, *, inside: bool = False, in_root: str = "") -> None:
        self.machine = Machine()
        self.units = Units(self.machine, str(tmp_path))
        self.manager = self.machine.spawn("systemd", "/init.scope")
        self.other = self.machine.spawn("sshd", "/system.slice/ssh.service")
        if in_root:
            self.machine.spawn(in_root, "/").flags = 0x04208060 if in_root.startswith("k") else 0
        self.outside = Outside(self.units, self.machine.observer(), self.machine.door(), inside=inside)
        self.outside.begin({UNIT: "/srv/web"})
        self.outside.belongs({"a" * 32: UNIT}, {RUN: UNIT, NEIGHBOUR: BIG}, [TOP, ""])
        self.main = self.machine.spawn("web", RUN, parent=self.manager.pid)
        self.outside.look_now()

    def end(self) -> list[tuple[int, str]]:
        self.outside.finish()
        for handle in self.outside.handles:
            self.machine.close(handle)
        return [(stray.pid, stray.unit) for stray in self.outside.strays]


@pytest.mark.parametrize("inside", [False, True])
def test_nothing_new_elsewhere_is_no_stray(tmp_path, inside):
    played = Played(tmp_path, inside=inside)
    played.machine.spawn("child", RUN, parent=played.main.pid)
    assert played.end() == []


def test_one_that_was_seen_in_the_run_and_then_elsewhere(tmp_path):
    played = Played(tmp_path)
    child = played.machine.spawn("child", RUN, parent=played.manager.pid)
    played.outside.look_now()
    child.cgroup = "/system.slice/cron.service"
    assert played.end() == [(child.pid, UNIT)]


@pytest.mark.parametrize("inside", [False, True])
@pytest.mark.parametrize(
    "place", ["/cgpf0123456789ab.slice/free", f"/{UNIT}", f"/cgpf0123456789ab.slice/{UNIT}.free", NEIGHBOUR]
)
def test_a_cgroup_beside_that_of_the_service_is_elsewhere_and_one_below_it_is_not(tmp_path, place, inside):
    played = Played(tmp_path, inside=inside)
    child = played.machine.spawn("child", RUN, parent=played.manager.pid)
    below = played.machine.spawn("child", f"{RUN}/worker", parent=played.manager.pid)
    played.outside.look_now()
    child.cgroup = place
    started = played.machine.spawn("x", place, parent=below.pid)
    assert played.end() == [(child.pid, UNIT), (started.pid, UNIT)]


def test_a_cgroup_with_the_name_of_a_run_hides_nothing_in_a_guest_and_on_a_host_it_is_another_run(tmp_path):
    for inside in (False, True):
        played = Played(tmp_path, inside=inside)
        stranger = played.machine.spawn("x", "/cgpfffffffffffff.slice/x", parent=played.manager.pid)
        assert played.end() == ([(stranger.pid, "")] if inside else [])


@pytest.mark.parametrize("adopted", [False, True])
@pytest.mark.parametrize("inside", [False, True])
def test_what_is_in_a_slice_of_the_run_and_in_no_service_counts_whoever_started_it(tmp_path, inside, adopted):
    """A daemon can leave its cgroup before anybody has looked; and another program than the manager can adopt it."""
    played = Played(tmp_path, inside=inside)
    parent = played.other if adopted else played.manager
    free = [played.machine.spawn("x", place, parent=parent.pid) for place in (TOP, f"{TOP}/free")]
    played.machine.spawn("x", f"{RUN}/free", parent=parent.pid)
    # In a guest this tool has processes of its own there, and nobody else can adopt one.
    assert played.end() == ([] if inside and adopted else [(item.pid, "") for item in free])


def test_on_a_host_one_that_only_passes_through_a_slice_of_the_run_does_not_count(tmp_path):
    played = Played(tmp_path)
    child = played.machine.spawn("(web)", TOP, parent=played.manager.pid)
    played.outside.look_now()
    child.cgroup = RUN
    played.machine.spawn("x", "/cgpfffffffffffff.slice/free", parent=played.manager.pid)
    assert played.end() == []


@pytest.mark.parametrize("inside", [False, True])
@pytest.mark.parametrize(
    ("place", "mounts", "found"),
    [
        (NEIGHBOUR, "mnt:[7]", True),
        (f"{NEIGHBOUR}/below", "mnt:[7]", True),
        ("/elsewhere", "mnt:[7]", True),
        (NEIGHBOUR, "mnt:[8]", False),
        (NEIGHBOUR, "mnt:[1]", False),
        (RUN, "mnt:[7]", False),
    ],
)
def test_one_that_left_before_it_was_seen_is_known_by_its_mounts(tmp_path, place, mounts, found, inside):
    """A neighbour's own daemon has others, and those of the manager say nothing."""
    played = Played(tmp_path, inside=inside)
    main, big = played.main, played.machine.spawn("big", NEIGHBOUR, parent=played.manager.pid)
    main.mounts, big.mounts = "mnt:[7]", "mnt:[8]"
    played.outside.look_now()
    child = played.machine.spawn("x", place, parent=played.manager.pid)
    child.mounts = mounts
    assert played.end() == ([(child.pid, UNIT)] if found else [])


def test_the_first_look_at_a_service_and_at_what_left_it_can_be_the_same(tmp_path):
    played = Played(tmp_path)
    main, big, child = (
        played.machine.spawn("x", place, parent=played.manager.pid) for place in (RUN, NEIGHBOUR, NEIGHBOUR)
    )
    main.mounts = child.mounts = "mnt:[7]"
    big.mounts = "mnt:[8]"
    assert played.end() == [(child.pid, UNIT)]


def test_services_that_share_the_mounts_of_the_manager_or_of_this_tool_are_not_taken_for_each_other(tmp_path):
    """As those of the engines user and cgroupfs."""
    played = Played(tmp_path)
    for place in (NEIGHBOUR, RUN, NEIGHBOUR):
        played.machine.spawn("x", place, parent=played.manager.pid)
    assert played.end() == []


@pytest.mark.parametrize("changes", [False, True])
def test_the_number_of_a_namespace_that_is_gone_says_nothing(tmp_path, changes):
    """The kernel gives it to the next one, also where its process has gone into another one."""
    played = Played(tmp_path)
    played.main.mounts = "mnt:[7]"
    played.outside.look_now()
    if changes:
        played.main.mounts = "mnt:[9]"
    else:
        played.machine.end(played.main)
    big = played.machine.spawn("big", NEIGHBOUR, parent=played.manager.pid)
    big.mounts = "mnt:[7]"
    assert played.end() == []


def test_one_that_was_first_seen_elsewhere_then_in_the_run_and_then_elsewhere_again(tmp_path):
    """The manager moves what it starts; a program that leaves after that left the service."""
    played = Played(tmp_path)
    moved, stays = (played.machine.spawn("x", "/system.slice", parent=played.manager.pid) for _ in range(2))
    played.outside.look_now()
    moved.cgroup = stays.cgroup = RUN
    played.outside.look_now()
    moved.cgroup = "/system.slice/cron.service"
    assert played.end() == [(moved.pid, UNIT)]


@pytest.mark.parametrize("exists", [False, True])
@pytest.mark.parametrize("inside", [False, True])
def test_a_cgroup_with_the_name_of_a_removed_one_is_elsewhere_if_it_exists(tmp_path, exists, inside):
    """A zombie keeps the name of its removed cgroup, with a mark (cgroup-v2.rst, "Processes"); a folder can copy it."""
    played = Played(tmp_path, inside=inside)
    child = played.machine.spawn("child", RUN, parent=played.main.pid)
    played.outside.look_now()
    child.cgroup = f"{RUN} (deleted)"
    if exists:
        played.machine.cgroups.add(child.cgroup)
    assert played.end() == ([(child.pid, UNIT)] if exists else [])


def test_one_that_comes_back_is_found_all_the_same(tmp_path):
    played = Played(tmp_path)
    child = played.machine.spawn("child", RUN, parent=played.main.pid)
    played.outside.look_now()
    child.cgroup = "/elsewhere"
    played.outside.look_now()
    child.cgroup = RUN
    assert played.end() == [(child.pid, UNIT)]


def test_a_child_of_one_of_the_run_is_one_wherever_it_begins(tmp_path):
    played = Played(tmp_path)
    child = played.machine.spawn("child", "/user.slice/x.scope", parent=played.main.pid)
    assert played.end() == [(child.pid, UNIT)]


def test_an_orphan_is_known_by_its_invocation_or_its_program(tmp_path):
    played = Played(tmp_path)
    one = played.machine.spawn("x", "/elsewhere", parent=played.manager.pid, environ=f"INVOCATION_ID={'a' * 32}\0")
    two = played.machine.spawn("x", "/elsewhere", parent=played.manager.pid)
    two.program = "/srv/web"
    others = [
        played.machine.spawn("x", "/elsewhere", parent=played.manager.pid, environ=f"INVOCATION_ID={'b' * 32}\0"),
        played.machine.spawn("x", "/elsewhere", parent=played.other.pid),
    ]
    for other in others:
        other.program = "/srv/web"
    assert played.end() == [(one.pid, UNIT), (two.pid, UNIT)]


def test_an_orphan_in_the_root_cgroup_counts_and_what_the_kernel_starts_does_not(tmp_path):
    played = Played(tmp_path)
    orphan = played.machine.spawn("x", "/", parent=played.manager.pid)
    played.machine.spawn("modprobe", "/", parent=2)
    worker = played.machine.spawn("kworker/0:1", "/", parent=3)
    worker.flags = 0x04208060
    assert played.end() == [(orphan.pid, "")]


@pytest.mark.parametrize(("before", "counts"), [("getty", False), ("kworker/0:1", True)])
def test_an_orphan_in_the_root_cgroup_is_of_the_host_where_its_programs_are_there(tmp_path, before, counts):
    """Without systemd: the init system leaves programs in the root cgroup, and their orphans come there, too."""
    played = Played(tmp_path, in_root=before)
    orphan = played.machine.spawn("sleep", "/", parent=played.manager.pid)
    ours = played.machine.spawn("x", "/", parent=played.manager.pid, environ=f"INVOCATION_ID={'a' * 32}\0")
    assert sorted(played.end()) == [*([(orphan.pid, "")] if counts else []), (ours.pid, UNIT)]
    guest = Played(tmp_path, in_root=before, inside=True)
    orphan = guest.machine.spawn("sleep", "/", parent=guest.manager.pid)
    assert guest.end() == [(orphan.pid, "")]


def test_on_a_host_what_others_start_is_theirs_and_in_a_guest_it_is_not(tmp_path):
    for inside in (False, True):
        played = Played(tmp_path, inside=inside)
        stranger = played.machine.spawn("x", "/system.slice/x.service", parent=played.manager.pid)
        login = played.machine.spawn("sh", "/system.slice/ssh.service", parent=played.other.pid)
        played.machine.spawn("ls", "/system.slice/ssh.service", parent=login.pid)
        assert played.end() == ([(stranger.pid, "")] if inside else [])


def test_in_a_guest_what_the_manager_started_for_a_unit_of_its_own_is_no_stray(tmp_path):
    played = Played(tmp_path, inside=True)
    main = played.machine.spawn("fstrim", "/system.slice/fstrim.service", parent=played.manager.pid)
    played.machine.spawn("sh", "/system.slice/fstrim.service", parent=main.pid)
    played.units.mains["fstrim.service"] = (main.pid,)
    moved = played.machine.spawn("x", "/system.slice/fstrim.service", parent=played.manager.pid)
    assert played.end() == [(moved.pid, "")]


def test_a_unit_file_or_a_drop_in_that_was_written_during_the_run_makes_it_one(tmp_path):
    folder = "/run/systemd/system"
    for written in ((), ("new.service",), ("fstrim.service.d",), ("other.service",)):
        played = Played(tmp_path, inside=True)
        played.machine.folders_of[folder] = ("fstrim.service", *written)
        mains = {name: played.machine.spawn("x", f"/system.slice/{name}", parent=played.manager.pid)
                 for name in ("fstrim.service", "new.service")}  # fmt: skip
        played.units.mains = {name: (process.pid,) for name, process in mains.items()}
        odd = {name.removesuffix(".d") for name in written} & set(mains)
        assert played.end() == [(mains[name].pid, "") for name in odd]


def test_one_that_the_manager_is_about_to_move_is_no_stray(tmp_path):
    played = Played(tmp_path, inside=True)
    fresh = played.machine.spawn("(web)", "/init.scope", parent=played.manager.pid)
    played.outside.look_now()
    fresh.cgroup = RUN
    assert played.end() == []


def test_the_number_of_an_old_process_given_to_a_new_one_hides_nothing(tmp_path):
    played = Played(tmp_path)
    number = played.other.pid
    played.machine.end(played.other)
    played.outside.look_now()
    reused = played.machine.spawn("x", "/", parent=played.manager.pid)
    del played.machine.processes[reused.pid]
    reused.pid = number
    played.machine.processes[number] = reused
    assert played.end() == [(number, "")]


def test_the_findings_name_cgroup_and_command():
    stray = Stray(pid=7, cgroup="/x", command="miner --fast", unit="")
    process, unit = outside_findings([stray], ["run-u1.service"], {})
    assert (process.code, process.status, unit.status) == ("CGP502", Status.FAIL, Status.FAIL)
    assert "/x" in process.message
    assert "miner --fast" in process.message
    assert "run-u1.service" in unit.message
    assert not list(outside_findings([], [], {}))


@pytest.mark.parametrize("text", [None, JOB])
def test_a_whole_run_finds_and_ends_a_daemon_without_an_environment(tmp_path, text):
    children = []

    def leaves(units: Units, unit: Unit) -> None:
        child = units.machine.spawn("miner", unit.cgroup, parent=unit.main.pid)
        children.append(child)

        def moves() -> None:
            child.parent, child.cgroup = 1, "/"

        units.machine.later(0.5, moves)

    program = Program(ends_after=1.0, does=leaves) if text else Program(address=URL, does=leaves)
    trial = Trial(tmp_path, program, *([text] if text else []))
    seen = trial.one()
    assert statuses(seen)["CGP502"] is Status.FAIL
    assert (children[0].pid, signal.SIGKILL) in trial.machine.signals
    assert seen.service.unit == WEB


def test_the_unit_is_that_of_the_run_and_not_that_of_the_manager(tmp_path):
    played, above = Played(tmp_path), "/user.slice/user@1000.service"
    played.outside.belongs({}, {RUN: UNIT, f"{above}{RUN}": UNIT}, [f"{above}{TOP}"])
    child = played.machine.spawn("x", f"{above}{RUN}/sub", parent=played.manager.pid)
    played.outside.look_now()
    child.cgroup = "/user.slice/user@1000.service/app.slice"
    assert played.end() == [(child.pid, UNIT)]


@pytest.mark.parametrize("place", [RUN, f"{RUN}/worker", "/elsewhere"])
def test_what_leaves_a_service_that_this_tool_started_itself_is_found(tmp_path, place):
    """The engine cgroupfs has no manager: programs are children of a process that ran before."""
    played = Played(tmp_path)
    outside = Outside(played.units, played.machine.observer(), played.machine.door(), inside=False)
    outside.begin({UNIT: "/srv/web"})
    played.machine.cgroups.add(RUN)
    main = played.machine.spawn("sh", RUN, parent=played.other.pid)
    outside.belongs({"a" * 32: UNIT}, {RUN: UNIT}, [TOP])
    worker = played.machine.spawn("worker", RUN, parent=main.pid)
    command = played.machine.spawn("systemctl", "/system.slice/ssh.service", parent=played.other.pid)
    outside.look_now()
    worker.cgroup, worker.parent = place, played.manager.pid
    outside.finish()
    for handle in outside.handles:
        played.machine.close(handle)
    found = [(stray.pid, stray.unit) for stray in outside.strays]
    assert found == ([(worker.pid, UNIT)] if place == "/elsewhere" else [])
    assert command.pid not in [pid for pid, _ in found]
