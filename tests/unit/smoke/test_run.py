"""A whole smoke run on a played machine: nothing that was seen is left out; and what it takes of a host's facts."""

import contextlib
import os
import tempfile
from collections.abc import Iterable
from dataclasses import replace
from types import SimpleNamespace

import pytest

from cgroup_preflight.checks.numbers import host_numbers
from cgroup_preflight.core.reading import Known
from cgroup_preflight.core.report import Status
from cgroup_preflight.engines.base import Exit, How, Launch
from cgroup_preflight.engines.choice import EngineChoice
from cgroup_preflight.engines.session import local_door
from cgroup_preflight.golang.modinfo import BuildInfo
from cgroup_preflight.golang.program import Binary
from cgroup_preflight.plan.build import build_plan, only
from cgroup_preflight.smoke import run as run_module
from cgroup_preflight.smoke.run import SmokeResult, _may_begin, prove
from tests.unit.core.making import config_of
from tests.unit.engines.machine import MOUNT, Machine, Program, Unit, Units
from tests.unit.host.fabricate import facts, unreadable

GIB = 1 << 30
TEXT = """\
[slices.api]
MemoryMax = "256M"
[services.web]
binary = "dist/web"
slice = "api"
MemoryMax = "64M"
TasksMax = 64
[services.web.smoke]
duration = "2s"
"""


@pytest.fixture(autouse=True)
def folder_of_the_run(tmp_path, monkeypatch):
    """A run in a guest leaves its private folder to the end of the guest; here pytest removes it."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


def numbers(memory, pids):
    """Memory and tasks with these limits at the root cgroup; `absent` for no file there."""
    limits = {
        name: unreadable() if value == "absent" else Known(value=value, source="fake")
        for name, value in (("memory_max", memory), ("pids_max", pids))
    }
    host = facts(
        meminfo={"MemTotal": 4 * GIB}, pid_max=4194304, threads_max=63000, root=replace(facts().root, **limits)
    )
    found = host_numbers(host)
    return found.memory_bytes, found.tasks_max


@pytest.mark.parametrize(
    ("memory", "pids", "expected"),
    [
        ("absent", "absent", (4 * GIB, 63000)),  # the real root has no limits
        (None, None, (4 * GIB, 63000)),
        (GIB, 500, (GIB, 500)),
        (GIB + 100, 70000, (GIB, 63000)),
        (8 * GIB, 500, (4 * GIB, 500)),
    ],
)
def test_parts_are_of_the_least_of_machine_and_root_cgroup(memory, pids, expected):
    assert numbers(memory, pids) == expected


class Named(Units):
    """The programs go by the label of a service, since the run makes up the rest of the name."""

    def start(self, launches):
        launches = list(launches)
        for launch in launches:
            for label, program in list(self.programs.items()):
                if launch.unit.endswith(f"-{label}.service"):
                    self.programs[launch.unit] = program
        return super().start(launches)

    def make(self, unit, cgroup, settings):
        for label, texts in list(self.wrong.items()):
            if unit.partition("-")[2] == label:
                self.wrong[unit] = texts
        super().make(unit, cgroup, settings)


class Trial:
    """A run of services of `text`; `answers` are what probes say about each push."""

    def __init__(self, tmp_path, text: str = TEXT, **host: object) -> None:
        self.machine = Machine()
        self.units = Named(self.machine, str(tmp_path))
        self.units.on_started = self._started
        self.text = text
        self.said: list[str] = []
        self.pushed: list[str] = []
        self.acts = True
        self.inputs: list[int] = []
        self.programs: dict[str, Binary] = {}
        self.host = facts(
            0, meminfo={"MemTotal": 4 * GIB, "MemAvailable": 2 * GIB, "SwapTotal": 0, **host.pop("meminfo", {})}, **host
        )

    def run(self, names: tuple[str, ...] = (), **more: object) -> SmokeResult:
        config = config_of(self.text)
        try:
            result = prove(
                config, only(build_plan(config, programs=self.programs), names), self.host, self.units,
                self.machine.door(), self.said.append, **more,
            )  # fmt: skip
        finally:
            for handle in self.inputs:
                os.close(handle)
        assert not self.machine.handles
        return result

    def _started(self, launch: Launch, unit: Unit) -> None:
        """A probe: it answers each line on its input."""
        if not launch.input:
            return
        with open(launch.output, "w") as out:
            out.write("up 7\n")
        handle = os.open(launch.input, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)

        def tick() -> None:
            with contextlib.suppress(BlockingIOError):
                for line in os.read(handle, 4096).decode().splitlines():
                    self.pushed.append(line)
                    self._answer(line, launch, unit)

        self.machine.ticks.append(tick)
        self.inputs.append(handle)

    def _answer(self, line: str, launch: Launch, unit: Unit) -> None:
        kind = line.split(" ")[0]
        with open(launch.output, "a") as out:
            if kind == "drop":
                out.write("over 0\n")
            elif not self.acts:
                out.write("ended 1\n")
        if kind == "tasks" and self.acts:
            self.machine.write(unit.cgroup, pids_current="64\n", pids_events="max 1\n")
        if kind == "push" and self.acts:
            # Of the unit and of its slice, whichever limit is tested.
            for cgroup in (unit.cgroup, unit.cgroup.rpartition("/")[0]):
                count = len(self.pushed)
                self.machine.write(cgroup, memory_events=f"oom_kill {count}\n")
                self.machine.files[f"{MOUNT}{cgroup}/memory.events.local"] = f"max 5\noom {count}\n"


def by_code(result: SmokeResult) -> dict[str, set[Status]]:
    found: dict[str, set[Status]] = {}
    for item in result.findings:
        found.setdefault(item.code, set()).add(item.status)
    return found


def test_a_run_where_all_holds(tmp_path):
    trial = Trial(tmp_path)
    result = trial.run()
    assert by_code(result) == {
        code: {Status.PASS} for code in ("CGP501", "CGP502", "CGP503", "CGP509", "CGP510", "CGP511")
    }
    (service,) = result.services
    assert (service.name, service.engine, service.exit_status) == ("web", "systemd", 15)
    assert [limit.file.partition("-")[2] for limit in service.limits if limit.ok] == [
        f"api.slice/{name}" for name in ("memory.max", f"{service.unit}/memory.max", f"{service.unit}/pids.max")
    ]
    assert {line.split()[0] for line in trial.pushed} == {"push", "tasks", "drop"}
    assert os.listdir(trial.units.unit_folder) == []
    assert trial.machine.cgroups == {""}
    assert result.processes_started == 0


def test_limits_that_did_not_act_are_a_fail(tmp_path):
    trial = Trial(tmp_path)
    trial.acts = False
    assert Status.PASS not in by_code(trial.run())["CGP511"]


def test_a_limit_that_is_not_in_force_is_not_pushed_against(tmp_path):
    trial = Trial(tmp_path)
    trial.units.wrong = {"_probe-0.service": {"pids.max": "max"}}
    result = trial.run()
    assert Status.FAIL in by_code(result)["CGP511"]
    assert "tasks" not in {line.split()[0] for line in trial.pushed}


def test_a_slice_whose_limit_is_lost_is_a_fail_of_its_services(tmp_path):
    trial = Trial(tmp_path)
    trial.units.wrong = {"api.slice": {"memory.max": "max"}}
    assert by_code(trial.run())["CGP501"] == {Status.FAIL}


@pytest.mark.parametrize(("required", "status"), [("", Status.WARN), ('"cpu", "io"', Status.FAIL)])
def test_a_share_that_is_required_is_a_fail_without_its_file(tmp_path, required, status):
    text = TEXT.replace("TasksMax = 64", "IOWeight = 60") + f"[require]\ncontrollers = [{required}]\n"
    trial = Trial(tmp_path, text)
    trial.units.wrong = {"web.service": {"io.weight": "absent"}}
    assert by_code(trial.run())["CGP501"] == {status}


@pytest.mark.parametrize(("total", "status"), [(0, Status.SKIP), (GIB, Status.UNVERIFIED), (None, Status.UNVERIFIED)])
def test_a_missing_swap_limit_matters_where_there_is_swap(tmp_path, total, status):
    """Or where that is unknown, and where all of it is in use."""
    trial = Trial(tmp_path, TEXT.replace("TasksMax = 64", "MemorySwapMax = 0"), meminfo={"SwapTotal": total})
    trial.units.wrong = {"web.service": {"memory.swap.max": "absent"}}
    codes = by_code(trial.run())
    assert codes["CGP501"] == {status}
    assert (Status.UNVERIFIED in codes["CGP511"]) is (status is Status.UNVERIFIED)


@pytest.mark.parametrize(("held", "status"), [("kill", Status.WARN), ("auto", Status.FAIL), (None, Status.UNVERIFIED)])
def test_policies_are_asked_of_the_engine(tmp_path, held, status):
    trial = Trial(tmp_path, TEXT.replace("TasksMax = 64", 'ManagedOOMMemoryPressure = "kill"'))
    trial.units.settings_of = lambda units, names: {unit: {"ManagedOOMMemoryPressure": held} for unit in units if held}
    assert by_code(trial.run())["CGP513"] == {status}


def test_without_policies_the_engine_is_not_asked(tmp_path):
    trial = Trial(tmp_path)
    trial.units.settings_of = trial.units.system_runs = lambda *_words: pytest.fail("asked")
    assert "CGP513" not in by_code(trial.run())


def test_a_go_program_that_nobody_could_look_into_is_told(tmp_path):
    trial = Trial(tmp_path)
    trial.programs["web"] = Binary(path="/src/dist/web", info=BuildInfo(go_version="go1.27.3"))
    assert by_code(trial.run())["CGP418"] == {Status.SKIP}


@pytest.mark.parametrize("keeps", ["units", "files"])
def test_what_a_run_leaves_behind_is_a_fail(tmp_path, keeps):
    trial = Trial(tmp_path)
    trial.units.keeps.add(keeps)
    assert by_code(trial.run())["CGP510"] == {Status.FAIL}


def test_inside_a_guest_nothing_is_removed_and_nothing_is_said_of_it(tmp_path):
    trial = Trial(tmp_path)
    result = trial.run(inside=True)
    assert "CGP510" not in by_code(result)
    assert trial.units.active("cgpf")


def test_in_a_guest_at_the_end_of_lines_the_payload_is_put_there(tmp_path):
    """The FIFO of a payload is kept open by itself there, so it is no input of its unit."""
    trial, asked = Trial(tmp_path), []
    trial.units.on_started = lambda launch, _unit: asked.append(launch)
    door = trial.machine.door()
    trial.machine.door = lambda: replace(door, host="ubuntu-24.04 guest (uml)")
    trial.run(inside=True)
    probes = [item for item in asked if "/bin/sh" in item.command]
    assert probes
    assert all(item.command[:2] == ("/bin/sh", "-c") and not item.input for item in probes)
    assert {os.path.basename(item.command[-2]) for item in probes} == {"payload.sh"}


def test_only_the_services_of_these_names_run(tmp_path):
    text = TEXT + '[services.other]\nbinary = "x"\n'
    assert [item.name for item in Trial(tmp_path, text).run(("other",)).services] == ["other"]
    assert len(Trial(tmp_path, text).run().services) == 2


def test_a_service_that_fails_fails_the_run_and_the_probes_run_all_the_same(tmp_path):
    trial = Trial(tmp_path)
    ended = Exit(how=How.EXITED, status=1)
    trial.units.programs = {"web": Program(ends_after=1, ended=ended, result="exit-code")}
    found = by_code(trial.run())
    assert (found["CGP503"], found["CGP511"]) == ({Status.FAIL}, {Status.PASS})


class Elsewhere:
    """Another machine, which can judge what was found while the folder of the run is there."""

    def __init__(self) -> None:
        self.judged_in: list[tuple[bool, int]] = []

    @contextlib.contextmanager
    def prepared(self, door, guarded, config, plan, say):
        yield SimpleNamespace(door=door, config=config, plan=plan)

    def judged(self, _door, folder, findings):
        self.judged_in.append((os.path.isdir(folder), len(findings)))
        return tuple(
            replace(item, status=Status.UNVERIFIED) if item.status is Status.FAIL else item for item in findings
        )


def test_another_machine_judges_what_was_found_before_its_folder_goes(tmp_path):
    trial, elsewhere = Trial(tmp_path), Elsewhere()
    ended = Exit(how=How.EXITED, status=1)
    trial.units.programs = {"web": Program(ends_after=1, ended=ended, result="exit-code")}
    result = trial.run(elsewhere=elsewhere)
    assert by_code(result)["CGP503"] == {Status.UNVERIFIED}
    assert elsewhere.judged_in == [(True, len(result.findings))]


def test_what_a_crashed_run_left_is_removed_first(tmp_path):
    trial = Trial(tmp_path)
    (tmp_path / "cgpf0123456789ab.slice").write_text("# owner: pid 7 started 7 namespace 42\n")
    trial.run()
    assert trial.said[0] == "removed what a crashed run left behind (cgpf0123456789ab)"


@pytest.mark.parametrize(("user", "journal"), [(False, True), (True, False)])
def test_output_goes_to_a_file_only_where_no_journal_can_be_read(tmp_path, user, journal, monkeypatch):
    trial = Trial(tmp_path)
    trial.units.user = user
    monkeypatch.setattr(run_module, "_reads_journal", lambda _door: False)
    (service,) = trial.run().services
    assert bool(service.log_tail) is journal


@pytest.mark.parametrize("user", [None, (os.getuid(), os.getgid())])
def test_a_service_with_a_ready_line_writes_to_a_file_of_the_caller(tmp_path, user):
    """The journal may have dropped the line before it was read; through sudo systemd would make the file for root."""
    trial = Trial(tmp_path, f'{TEXT}ready = "log:listening"\n')
    before, start = [], trial.units.start

    def starting(launches: Iterable[Launch]) -> dict[str, str]:
        (launch,) = launches
        before.append(os.path.exists(launch.output))
        with open(launch.output, "a") as file:
            file.write("listening\n")
        return start([launch])

    trial.units.start = starting
    (service,) = trial.run(user=user).services
    assert service.log_tail == ("listening",)
    assert before == [user is not None]


def test_through_sudo_services_run_as_the_caller():
    host = facts(0, uid=1234)
    assert run_module._run_as(host, EngineChoice(name="systemd", sudo=True), local_door({})) == (1234, os.getegid())
    assert run_module._run_as(host, EngineChoice(name="systemd"), local_door({})) is None


@pytest.mark.parametrize(
    ("in_slice", "is_slice", "over", "may"),
    [
        ("run-api.slice", False, {"run-api.slice"}, True),
        ("run-api-web.slice", False, {"run-api.slice"}, True),
        ("run-api-web.slice", False, {"run-api-web.slice", "run-db.slice"}, False),
        ("run-api.slice", True, {"run-api.slice"}, False),
        ("run-api.slice", True, {"run.slice"}, True),
        ("run.slice", False, {"run-api.slice"}, False),
        ("run.slice", False, {"run.slice"}, True),
    ],
)
def test_a_quota_is_pushed_against_where_no_service_stops(in_slice, is_slice, over, may):
    """A quota of a slice is for all services in it: neither may take time that is the other's."""
    services = SimpleNamespace(over=lambda unit: unit in over)
    assert _may_begin(services, "run", SimpleNamespace(in_slice=in_slice, is_slice=is_slice)) is may


@pytest.mark.parametrize(("cpus", "status"), [(2, Status.FAIL), (4, Status.WARN)])
def test_a_list_of_every_cpu_of_the_machine_is_no_limit(tmp_path, cpus, status):
    text = '[services.web]\nbinary = "dist/web"\nAllowedCPUs = "0-1"\n[services.web.smoke]\nduration = "1s"\n'
    trial = Trial(tmp_path, text, online_cpus=frozenset(range(cpus)))
    found = [item for item in trial.run().findings if "set for this service" in item.message]
    assert [item.status for item in found] == [status]
