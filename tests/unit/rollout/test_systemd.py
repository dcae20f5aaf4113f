"""What is asked of systemd, and what its answers become. The programs are played: the real ones are in the lab."""

import os
import stat

import pytest

from cgroup_preflight.core.errors import HostError
from cgroup_preflight.core.reading import Known, Missing, Why
from cgroup_preflight.engines import bus
from cgroup_preflight.engines.choice import EngineChoice
from cgroup_preflight.host.cgroup import Observer
from cgroup_preflight.host.command import Completed
from cgroup_preflight.host.local import LocalClock, LocalFiles
from cgroup_preflight.rollout.base import DeadMan
from cgroup_preflight.rollout.limits import PERCENT
from cgroup_preflight.rollout.stages import Change
from cgroup_preflight.rollout.systemd import Systemd

SHOWN = """\
Id=api.slice
LoadState=loaded
ActiveState=active
ControlGroup=/api.slice
Transient=no
DropInPaths=/etc/systemd/system.control/api.slice.d/50-CPUQuota.conf /run/x.conf
CPUQuotaPeriodUSec=infinity
CPUQuotaPerSecUSec=1.500s
CPUWeight=[not set]
MemoryMax=infinity
MemoryHigh=67108864
TasksMax=18446744073709551615
"""


class Programs:
    """Answers by the first words of a command; all others succeed without output."""

    def __init__(self, **answers) -> None:
        self.answers, self.ran = answers, []

    def run(self, argv, *, timeout=20.0, stdin=b""):
        self.ran.append((argv, stdin))
        status, out, err = next(
            (answer for word, answer in self.answers.items() if word.replace("_", "-") in argv), (0, "", "")
        )
        return Known(value=Completed(argv=argv, returncode=status, stdout=out, stderr=err), source=argv[0])


class Bus:
    def __init__(self, answer) -> None:
        self.answer, self.calls = answer, []

    def call(self, calls):
        self.calls += calls
        if isinstance(self.answer, Exception):
            raise self.answer
        return [self.answer]

    def show(self, units, names):
        return {unit: {"CPUQuotaPerSecUSec": str((1 << 64) - 1), "MemoryMax": "5"} for unit in units}


def manager(programs, *, name="systemd", sudo=False, private=None, home="/home/me"):
    fs = LocalFiles()
    return Systemd(
        EngineChoice(name=name, sudo=sudo), programs, private, Observer(fs, "/sys/fs/cgroup"), fs, LocalClock(),
        uid=1000, home=home,
    )  # fmt: skip


def test_what_systemctl_shows_becomes_numbers():
    found = manager(Programs(show=(0, SHOWN, ""))).show(["api.slice"])["api.slice"]
    assert found.values == {
        "CPUQuota": 1_500_000,
        "CPUWeight": None,
        "MemoryMax": None,
        "MemoryHigh": 64 << 20,
        "TasksMax": None,
    }
    assert (found.cgroup, found.period, found.transient) == ("/api.slice", None, False)
    assert found.drop_ins[1] == "/run/x.conf"


def test_a_drop_in_with_a_blank_in_its_name_is_one_path():
    strange = '/run/x.conf "/etc/systemd/system/api.slice.d/60 my \\"limits\\".conf"'
    found = manager(Programs(show=(0, SHOWN.replace("/run/x.conf", strange), ""))).show(["api.slice"])["api.slice"]
    assert found.drop_ins[1:] == ("/run/x.conf", '/etc/systemd/system/api.slice.d/60 my "limits".conf')
    with pytest.raises(HostError, match="not understood"):
        manager(Programs(show=(0, SHOWN.replace("/run/x.conf", '"/run/x'), ""))).show(["api.slice"])


def test_a_value_that_is_not_understood_is_an_error():
    with pytest.raises(HostError, match="not understood"):
        manager(Programs(show=(0, SHOWN.replace("1.500s", "soon"), ""))).show(["api.slice"])


def test_one_call_changes_all_properties():
    programs = Programs()
    assert manager(programs).set("api.slice", {"CPUQuota": 50 * PERCENT, "MemoryMax": None}, runtime=True) == ""
    assert programs.ran[0][0] == (
        "systemctl",
        "set-property",
        "--runtime",
        "--",
        "api.slice",
        "CPUQuota=50%",
        "MemoryMax=infinity",
    )
    manager(programs, name="user").set("api.slice", {"CPUQuota": None}, runtime=False)
    assert programs.ran[1][0] == ("systemctl", "--user", "set-property", "--", "api.slice", "CPUQuota=")
    manager(programs, sudo=True).set("api.slice", {"TasksMax": 5}, runtime=False)
    assert programs.ran[2][0][:3] == ("sudo", "-n", "systemctl")


def test_root_asks_the_manager_itself_and_systemctl_for_the_words_of_a_refusal():
    programs, line = Programs(set_property=(1, "", "Access denied\n")), Bus(None)
    assert manager(programs, private=line).set("a.slice", {"CPUQuota": None}, runtime=True) == ""
    assert line.calls[0].member == "SetUnitProperties"
    assert programs.ran == []
    assert manager(programs, private=line).values(["a.slice"]) == {"a.slice": {"CPUQuota": None, "MemoryMax": 5}}
    for answer in (bus.REFUSED, bus.BusError("gone")):
        assert (
            manager(programs, private=Bus(answer)).set("a.slice", {"CPUQuota": None}, runtime=True) == "Access denied"
        )


def test_where_the_files_are():
    system, user = manager(Programs()), manager(Programs(), name="user")
    assert system.control_files("a.slice", ("CPUQuota",)) == (
        "/etc/systemd/system.control/a.slice.d/50-CPUQuota.conf", "/run/systemd/system.control/a.slice.d/50-CPUQuota.conf")  # fmt: skip
    assert user.control_files("a.slice", ("CPUQuota",)) == (
        "/home/me/.config/systemd/user.control/a.slice.d/50-CPUQuota.conf",
        "/run/user/1000/systemd/user.control/a.slice.d/50-CPUQuota.conf",
    )  # fmt: skip
    assert user.hold_file("a.slice").startswith("/run/user/1000/systemd/user/a.slice.d/90-")


@pytest.mark.parametrize(
    ("said", "folder"),
    [
        ("/srv/me/conf/systemd/user.control /run/user/1000/systemd/user.control /run/user/1000/systemd/transient", "/srv/me/conf"),
        ('"/srv/my conf/systemd/user.control" /run/user/1000/systemd/user.control', "/srv/my conf"),
        ("/run/user/1000/systemd/user.control /etc/systemd/user", "/home/me/.config"),
    ],
)  # fmt: skip
def test_a_users_manager_says_where_its_persistent_files_are(said, folder):
    programs = Programs()
    programs.answers = {"--property=UnitPath": (0, f"UnitPath={said}\n", "")}
    user = manager(programs, name="user")
    for _ in range(2):
        assert (
            user.control_files("a.slice", ("CPUQuota",))[0]
            == f"{folder}/systemd/user.control/a.slice.d/50-CPUQuota.conf"
        )
    assert len(programs.ran) == 1
    with pytest.raises(HostError, match="no bus"):
        manager(Programs(show=(1, "", "no bus")), name="user").control_files("a.slice", ("CPUQuota",))


def test_files_are_written_whole_and_removed(tmp_path):
    programs = Programs()
    found = manager(programs)
    path = str(tmp_path / "a.slice.d" / "50-x.conf")
    assert found.read_file(path) is None
    found.write_file(path, "text\n")
    assert found.read_file(path) == "text\n"
    found.remove_files([path, path])
    assert found.read_file(path) is None
    folder = os.path.dirname(path)
    assert [argv for argv, _ in programs.ran] == [("rmdir", "--ignore-fail-on-non-empty", "--", folder)]
    # /run/systemd/system must stay: sd_booted(3) asks for it.
    alone = tmp_path / "system"
    alone.mkdir()
    found.write_file(str(alone / "x.timer"), "text\n")
    found.remove_files([str(alone / "x.timer")])
    assert alone.is_dir()
    assert len(programs.ran) == 1
    # The administrator's own mode stays.
    (alone / "x.conf").touch(mode=0o600)
    found.write_file(str(alone / "x.conf"), "text\n")
    assert stat.S_IMODE((alone / "x.conf").stat().st_mode) == 0o600
    with pytest.raises(HostError):
        found.read_file(str(tmp_path))


def test_sudo_writes_through_tee():
    programs = Programs()
    manager(programs, sudo=True).write_file("/run/systemd/system/a.slice.d/x.conf", "text\n")
    assert programs.ran[0][0] == ("sudo", "-n", "mkdir", "-p", "--", "/run/systemd/system/a.slice.d")
    assert programs.ran[1] == (("sudo", "-n", "tee", "--", "/run/systemd/system/a.slice.d/x.conf"), b"text\n")
    with pytest.raises(HostError):
        manager(Programs(tee=(1, "", "no space left")), sudo=True).write_file("/run/x", "text")


def test_the_timer_is_written_started_anew_and_removed():
    waiting = "Id=cgroup-preflight-rollout.timer\nSubState=waiting\nDescription=cgroup-preflight rollout r1\n"
    programs = Programs(show=(0, waiting, ""))
    found = manager(programs, sudo=True)
    found.arm(
        DeadMan(
            rollout="r1",
            seconds=60.0,
            changes=(Change(unit="a.slice", values={"CPUQuota": None}),),
            copies={},
            removed=(),
            mark="/s/r1.restored",
        )
    )
    texts = [stdin.decode() for argv, stdin in programs.ran if "tee" in argv]
    assert "ExecStart=-" in texts[0]
    assert "OnActiveSec=60s" in texts[1]
    assert "Wants=cgroup-preflight-rollout.timer" in texts[2]
    assert programs.ran[-2][0][-3:] == ("restart", "--", "cgroup-preflight-rollout.timer")
    found.disarm()
    assert [argv[2] for argv, _ in programs.ran if "-f" in argv] == ["rm"]
    assert programs.ran[-1][0][-1] == "daemon-reload", "nothing in the memory of the manager starts it again"


class TimerBus(Bus):
    """A private bus with the state of the timer."""

    def __init__(self, answer, state) -> None:
        super().__init__(answer)
        self.state = state

    def show(self, units, names):
        if isinstance(self.answer, Exception):
            raise self.answer
        return {
            unit: {"ActiveState": self.state, "SubState": "waiting", "Description": "cgroup-preflight rollout r1"}
            for unit in units
        }


@pytest.mark.parametrize(("answer", "state", "processes"), [
    (1, "active", 0), (bus.REFUSED, "active", 1), (1, "failed", 1), (bus.BusError("gone"), "active", 1)])  # fmt: skip
def test_the_timer_is_renewed_without_a_process_where_that_can_be_seen_to_work(answer, state, processes):
    active = f"Id=cgroup-preflight-rollout.timer\nActiveState={state}\n"
    programs, line = Programs(show=(0, active, "")), TimerBus(answer, state)
    manager(programs, private=line).renew()
    restarts = [argv[-3:] for argv, _ in programs.ran if "show" not in argv]
    assert restarts == [("restart", "--", "cgroup-preflight-rollout.timer")] * processes
    assert processes or line.calls[0].member == "RestartUnit"
    with pytest.raises(HostError):
        manager(Programs(restart=(1, "", "failed")), private=TimerBus(answer, "failed")).renew()


def test_root_needs_no_process_for_the_timer(tmp_path):
    programs, line = Programs(), TimerBus(None, "active")
    found = manager(programs, private=line)
    found._units = found._known_lasting = str(tmp_path)
    found.arm(DeadMan(rollout="r1", seconds=60.0, changes=(), copies={}, removed=(), mark="/s/r1.restored"))
    assert [call.member for call in line.calls] == ["Reload", "RestartUnit"]
    line.state = "inactive"
    found.disarm()
    assert [call.member for call in line.calls[-2:]] == ["StopUnit", "Reload"]
    assert [argv[0] for argv, _ in programs.ran] == ["rmdir", "sync"], "what is gone is gone after a power failure, too"
    assert not [name for _, _, names in os.walk(tmp_path) for name in names]


def test_a_timer_that_does_not_run_is_an_error():
    plan = DeadMan(rollout="r1", seconds=60.0, changes=(), copies={}, removed=(), mark="/s/r1.restored")
    for shown in ("", "Id=cgroup-preflight-rollout.timer\nSubState=failed\nDescription=cgroup-preflight rollout r1\n"):
        with pytest.raises(HostError, match="does not run"):
            manager(Programs(show=(0, shown, "")), sudo=True).arm(plan)


def test_a_persistent_timer_starts_with_the_host_and_removes_itself_last():
    waiting = "Id=cgroup-preflight-rollout.timer\nSubState=waiting\nDescription=cgroup-preflight rollout r1\n"
    programs = Programs(show=(0, waiting, ""))
    manager(programs, sudo=True).arm(
        DeadMan(rollout="r1", seconds=60.0, changes=(), copies={}, removed=(), mark="/s/r1.restored", persistent=True)
    )
    written = [(argv[-1], stdin.decode()) for argv, stdin in programs.ran if "tee" in argv]
    assert [path for path, _ in written] == [
        "/etc/systemd/system/cgroup-preflight-rollout.service", "/etc/systemd/system/cgroup-preflight-rollout.timer",
        "/etc/systemd/system/timers.target.d/cgroup-preflight-rollout.conf"]  # fmt: skip
    starts = [line for line in written[0][1].splitlines() if line.startswith("ExecStart=")]
    assert "touch" in starts[-2]
    assert all(path in starts[-1] for path, _ in written)


def test_whose_timer_runs():
    running = "Id=cgroup-preflight-rollout.timer\nSubState=waiting\nDescription=cgroup-preflight rollout r1\n"
    assert manager(Programs(show=(0, running, ""))).armed_for() == "r1"
    assert manager(Programs(show=(0, running.replace("=waiting", "=elapsed"), ""))).armed_for() == ""


def test_a_reload_that_fails_is_an_error():
    with pytest.raises(HostError, match="denied"):
        manager(Programs(daemon_reload=(1, "", "denied"))).reload()


def test_a_manager_that_cannot_be_reached_is_an_error_and_no_unit_without_limits():
    deaf = manager(Programs(show=(1, "", "Failed to connect to bus: Connection refused\n")))
    for ask in (deaf.show, deaf.values, deaf.services):
        with pytest.raises(HostError, match="Connection refused"):
            ask(["api.slice"])
    with pytest.raises(HostError, match="Connection refused"):
        deaf.armed_for()
    # One unit of several that has no valid name says nothing about the others.
    assert "api.slice" in manager(Programs(show=(1, SHOWN, "Failed to get properties"))).show(
        ["api.slice", "x@.service"]
    )


def test_a_manager_that_is_away_for_a_moment_is_asked_again():
    """As in a daemon-reexec."""

    class Away(Programs):
        def run(self, argv, **more):
            self.answers = {"show": (0, SHOWN, "") if len(self.ran) == 2 else (1, "", "Connection refused")}
            return super().run(argv, **more)

    assert manager(Away()).values(["api.slice"])["api.slice"]["CPUQuota"] == 1_500_000


def test_a_file_of_the_kernel_that_cannot_be_read_is_not_one_that_does_not_exist(tmp_path):
    class Files(LocalFiles):
        def read(self, path):
            why = {"memory.current": Why.FAILED, "memory.stat": Why.DENIED, "io.weight": Why.UNSUPPORTED}
            name = os.path.basename(path)
            return Missing(source=path, why=why.get(name, Why.ABSENT))

    fs = Files()
    made = Systemd(EngineChoice(name="systemd", sudo=False), Programs(), None, Observer(fs, str(tmp_path)), fs, LocalClock(),
                   uid=0, home="/root")  # fmt: skip
    for name in ("memory.current", "memory.stat"):
        with pytest.raises(HostError, match="cannot be read"):
            made.attribute("/a.slice", name)
    assert made.attribute("/a.slice", "io.weight") is made.attribute("/a.slice", "cpu.max") is None
