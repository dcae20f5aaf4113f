"""Services under limits from start to stop, on a machine that is played: what is seen of each, and nothing is missed."""

import contextlib
import os
import signal
from collections.abc import Callable, Generator, Iterator
from functools import partial
from pathlib import Path
from typing import cast

import pytest

from cgroup_preflight.core.errors import HostError
from cgroup_preflight.core.reading import Known, Missing
from cgroup_preflight.core.report import Status
from cgroup_preflight.engines.base import Exit, How, Launch, Phase
from cgroup_preflight.engines.service_run import ServiceRun
from cgroup_preflight.plan.expect import expectations
from cgroup_preflight.plan.unit_syntax import setting_pairs
from cgroup_preflight.smoke.evidence import ServiceEvidence
from cgroup_preflight.smoke.findings import service_findings
from cgroup_preflight.smoke.payloads import ServicePayloads
from cgroup_preflight.smoke.probe_plan import Capacity, plan_probes
from cgroup_preflight.smoke.probes import Probes
from cgroup_preflight.smoke.run import _may_begin
from cgroup_preflight.smoke.services import Proof, Services
from tests.unit.engines.machine import MOUNT, NUMBERS, Machine, Program, Unit, Units, slice_cgroup
from tests.unit.smoke.fabricate import SCOPE, SLICE, TEXT, plan

Steps = Generator[None, None, tuple[ServiceEvidence, ...]]
WEB = f"{SCOPE}-web.service"
URL = "http://127.0.0.1:8080/healthz"
CGROUP = f"{SLICE}/{WEB}"
READY = f'ready = "{URL}"'
JOB = TEXT.replace(READY, 'ready = "exit"')
#: A service in each of two slices; the first slice and its service can have quotas.
TWO_SLICES = """
[slices.quick]
CPUWeight = 10
{quota}
[slices.slow]
CPUWeight = 10
[services.a]
binary = "x"
slice = "quick"
{own}
[services.b]
binary = "x"
slice = "slow"
"""
LOG = TEXT.replace(READY, 'ready = "log:^listening on \\\\d"')


class Trial:
    """One run of services on a played machine."""

    def __init__(self, tmp_path, program: Program | None = None, text: str = TEXT, *, journal: bool = True) -> None:
        self.machine = Machine()
        self.plan = plan(text)
        self.units = Units(self.machine, str(tmp_path), {WEB: program or Program(address=URL)})
        self.output = "" if journal else str(tmp_path / "out")
        self.said: list[str] = []
        #: Called with each turn that the stop gives to others.
        self.between: Callable[[Services], None] = lambda _: None
        self.units.slices = {item.unit: slice_cgroup(item.unit) for item in self.plan.slices}
        for item in self.plan.slices:
            self.units.make(item.unit, slice_cgroup(item.unit), setting_pairs(item.settings))

    def run(
        self, meanwhile: Callable[[Callable[[], None]], None] | None = None,
        drive: Callable[[Services, Steps], tuple[ServiceEvidence, ...]] | None = None,
    ) -> tuple[ServiceEvidence, ...]:  # fmt: skip
        above = {item.unit: item.settings for item in self.plan.slices}
        proofs = [
            Proof(
                ServiceRun(service, self._launch(service)),
                (
                    *((unit, expectations(above[unit], NUMBERS)) for unit in service.slices),
                    (service.unit, expectations(service.settings, NUMBERS)),
                ),
            )
            for service in self.plan.services
        ]
        machine, units = self.machine, self.units
        made = Services(units, machine.observer(), units.slices, self.said.append, machine.door())
        turns = made.run_all(proofs, meanwhile)
        while drive is None:
            try:
                next(turns)
            except StopIteration as end:
                seen = cast("tuple[ServiceEvidence, ...]", end.value)
                break
            self.between(made)
            machine.sleep(0.02)
        else:
            seen = drive(made, turns)
        assert not machine.handles, "every handle is given back"
        return seen

    def _launch(self, service) -> Launch:
        output = f"{self.output}-{service.label}" if self.output else ""
        return Launch(
            unit=service.unit, slice=service.slices[-1], description="", command=(service.binary,),
            settings=setting_pairs(service.settings), output=output,
        )  # fmt: skip

    def one(self) -> ServiceEvidence:
        (seen,) = self.run()
        return seen


def statuses(seen: ServiceEvidence) -> dict[str, Status]:
    return {item.code: item.status for item in service_findings(seen, required=(), swap=False)}


def test_a_service_that_holds_its_limits_is_seen_whole(tmp_path):
    trial = Trial(tmp_path)
    seen = trial.one()
    assert set(statuses(seen).values()) == {Status.PASS}
    assert (seen.engine, seen.cgroup, seen.refused, seen.log) == ("systemd", CGROUP, "", ("log of 0",))
    assert seen.ready is not None
    assert seen.ready.ok
    assert 0.3 <= seen.ready.seconds < 0.5
    assert seen.stay is not None
    assert (seen.stay.processes, seen.stay.strays, seen.stay.allowed_cpus) == (1, (), "0-1")
    assert (seen.ended_early, seen.silent, seen.killed, seen.go) == (False, "", False, None)
    assert seen.state.phase is Phase.AFTER_END
    assert seen.state.exit == Exit(how=How.KILLED, status=15)
    assert seen.counters is not None
    assert seen.counters.memory_peak == Known(value=4096, source=f"{MOUNT}{CGROUP}/memory.peak")
    assert [level.cgroup for level in seen.slices] == [f"/{SCOPE}.slice", SLICE]
    assert seen.effective is not None
    assert seen.effective.memory_bytes == 64 << 20
    assert 5.2 < seen.duration_seconds < 6
    assert {item.unit for item in seen.limits} == {WEB, f"{SCOPE}-api.slice"}
    assert len(trial.said) == 3


def test_the_time_of_the_hold_is_known_for_the_service_and_for_its_slices(tmp_path):
    seen = Trial(tmp_path, Program(address=URL, listens_after=2.0)).one()
    own, *above = seen.hold
    assert own.cgroup == CGROUP
    assert 5.0 <= own.seconds < 5.3
    assert [5.0 <= level.seconds <= own.seconds + 0.1 for level in above] == [True, True]


def test_the_program_begins_only_after_its_limits_were_read(tmp_path):
    """At the gate a limit is wrong, and it is right as soon as the program runs: its first instructions had none."""
    trial = Trial(
        tmp_path, Program(address=URL, does=lambda units, _unit: units.machine.write(CGROUP, memory_max="67108864"))
    )
    trial.units.wrong[WEB] = {"memory.max": "max"}
    seen = trial.one()
    assert {item.expected.attribute: item.actual.value for item in seen.limits}["memory.max"] == "max"
    assert statuses(seen)["CGP501"] is Status.FAIL


def test_a_limit_that_is_lost_while_the_program_runs_is_seen(tmp_path):
    seen = Trial(
        tmp_path, Program(address=URL, does=lambda units, _unit: units.machine.write(CGROUP, memory_max="max"))
    ).one()
    assert statuses(seen)["CGP501"] is Status.FAIL


def test_a_limit_of_a_slice_that_is_not_there_is_seen(tmp_path):
    trial = Trial(tmp_path)
    trial.machine.write(SLICE, memory_max="max")
    assert statuses(trial.one())["CGP501"] is Status.FAIL


def test_a_service_that_ends_by_itself_within_its_time(tmp_path):
    """With status 0, as a daemon that gives up in silence does."""
    seen = Trial(tmp_path, Program(address=URL, ends_after=2.0)).one()
    assert seen.ended_early
    assert 2.0 <= seen.duration_seconds < 2.1
    assert statuses(seen)["CGP503"] is Status.FAIL
    assert seen.stay is None


def test_a_job_is_ready_when_it_ends(tmp_path):
    seen = Trial(tmp_path, Program(ends_after=7.0), JOB).one()
    assert seen.ready is not None
    assert (seen.ready.ok, seen.ended_early) == (True, False)
    assert statuses(seen)["CGP503"] is Status.PASS


def test_a_job_that_does_not_end_is_not_ready(tmp_path):
    seen = Trial(tmp_path, Program(), JOB).one()
    assert seen.ready is not None
    assert (seen.ready.ok, seen.ready.why) == (False, "it is still running")
    assert statuses(seen)["CGP505"] is Status.FAIL


def test_one_that_is_never_ready(tmp_path):
    seen = Trial(tmp_path, Program(address=URL, listens_after=None)).one()
    assert seen.ready is not None
    assert seen.ready.why == f"connection refused at {URL}; the service listens at no address"
    assert 30 < seen.ready.seconds < 31
    assert statuses(seen)["CGP505"] is Status.FAIL


@pytest.mark.parametrize("address", ["http", "tcp", "log"])
def test_one_that_ends_before_it_is_ready(tmp_path, address):
    text = {
        "http": TEXT, "tcp": TEXT.replace(URL, "tcp://127.0.0.1:80"), "log": LOG,
    }[address]  # fmt: skip
    trial = Trial(
        tmp_path,
        Program(ends_after=0.001, ended=Exit(how=How.EXITED, status=3), result="exit-code"),
        text,
        journal=False,
    )
    seen = trial.one()
    assert seen.ready is not None
    assert (seen.ready.ok, seen.ready.why) == (False, "it ended before it was ready")
    assert seen.ended_early
    assert statuses(seen)["CGP503"] is Status.FAIL


def test_tcp_and_what_listens_there(tmp_path):
    text = TEXT.replace(URL, "tcp://127.0.0.1:80")
    seen = Trial(tmp_path, Program(address="127.0.0.1:80"), text).one()
    assert set(statuses(seen).values()) == {Status.PASS}
    seen = Trial(tmp_path, Program(address="127.0.0.1:81"), text).one()
    assert seen.ready is not None
    assert seen.ready.why == "no program listens at 127.0.0.1:80; the service listens at 127.0.0.1:81"


def test_a_unix_socket_and_what_listens_there(tmp_path):
    text = TEXT.replace(URL, "unix:/run/app.sock")
    seen = Trial(tmp_path, Program(address="/run/app.sock"), text).one()
    assert set(statuses(seen).values()) == {Status.PASS}
    seen = Trial(tmp_path, Program(address="/run/other.sock"), text).one()
    assert seen.ready is not None
    assert seen.ready.why == "no program listens at /run/app.sock; the service listens at /run/other.sock"


@pytest.mark.parametrize("url", [URL, "https://127.0.0.1:8443/healthz", "grpc://127.0.0.1:50051/shop.Orders"])
def test_an_answer_of_another_program_does_not_make_a_service_ready(tmp_path, url):
    """Two services, of which one listens on the ports of both: only that one is ready."""

    def squat(units: Units, unit: Unit) -> None:
        other = units.machine.spawn("b", "/b.slice/b.service")
        units.machine.later(0.1, lambda: units.machine.listen(url, other))

    seen = Trial(tmp_path, Program(does=squat), TEXT.replace(URL, url)).one()
    assert seen.ready is not None
    assert not seen.ready.ok
    assert seen.ready.why.startswith(f"another program listens at {url}: b (PID ")
    assert " of b.service" in seen.ready.why
    assert statuses(seen)["CGP505"] is Status.FAIL


def test_an_answer_of_which_nobody_can_tell_whose_it_is_is_unverified(tmp_path):
    def hide(units: Units, unit: Unit) -> None:
        assert unit.main is not None
        units.machine.denied.add(unit.main.pid)

    seen = Trial(tmp_path, Program(address=URL, does=hide)).one()
    assert seen.ready is not None
    assert (seen.ready.ok, "EACCES" in seen.ready.doubt) == (True, True)
    assert statuses(seen)["CGP505"] is Status.UNVERIFIED


def test_a_service_that_hides_its_sockets_later_is_unverified(tmp_path):
    def hide(units: Units, unit: Unit) -> None:
        assert unit.main is not None
        pid = unit.main.pid
        units.machine.later(2.0, lambda: units.machine.denied.add(pid))

    seen = Trial(tmp_path, Program(address=URL, does=hide)).one()
    assert seen.ready is not None
    assert (seen.ready.ok, "EACCES" in seen.ready.doubt, seen.silent) == (True, True, "")
    assert statuses(seen)["CGP505"] is Status.UNVERIFIED


def test_another_program_that_takes_the_address_over_is_seen_at_the_end(tmp_path):
    def lose(units: Units, unit: Unit) -> None:
        other = units.machine.spawn("b", "/b.slice/b.service")
        units.machine.later(2.0, lambda: units.machine.listen(URL, other))

    seen = Trial(tmp_path, Program(address=URL, does=lose)).one()
    assert "another program listens" in seen.silent
    assert statuses(seen)["CGP505"] is Status.FAIL


def test_the_periods_after_the_start_are_counted_for_the_service_and_its_slices(tmp_path):
    trial = Trial(tmp_path)
    texts = {
        "before": "usage_usec 1\nnr_periods 300\nnr_throttled 290\n",
        "after": "nr_periods 350\nnr_throttled 291\n",
    }

    def turn() -> None:
        for cgroup in (CGROUP, SLICE):
            when = "before" if trial.machine.now < 1002 else "after"
            trial.machine.files[f"{MOUNT}{cgroup}/cpu.stat"] = texts[when]

    trial.machine.ticks.append(turn)
    seen = trial.one()
    assert [(item.cgroup, item.counted("nr_periods"), item.counted("nr_throttled")) for item in seen.hold[:2]] == [
        (CGROUP, 50, 1), (SLICE, 50, 1),
    ]  # fmt: skip


def test_a_service_that_is_not_ready_or_ended_has_no_hold(tmp_path):
    assert Trial(tmp_path, Program(address=URL, listens_after=None)).one().hold == ()
    assert Trial(tmp_path, Program(address=URL, ends_after=1.0)).one().hold == ()


def test_a_service_waits_while_much_of_its_output_is_unread(tmp_path):
    trial = Trial(tmp_path, Program(), LOG, journal=False)
    unread = (1 << 18) * 80 * "y"

    def flood() -> None:
        if trial.machine.now > 1000.3 and not trial.machine.ticks[1:]:
            trial.machine.ticks.append(lambda: None)
            with open(f"{trial.output}-web", "a") as file:
                file.write(f"{unread}\nlistening on 1\n")

    trial.machine.ticks.append(flood)
    seen = trial.one()
    assert seen.ready is not None
    assert seen.ready.ok
    frozen = [text for path, text in trial.units.written if path == f"{MOUNT}{CGROUP}/cgroup.freeze"]
    assert frozen == ["1", "0"]


def test_started_is_ready_at_once(tmp_path):
    seen = Trial(tmp_path, Program(), TEXT.replace(READY, "")).one()
    assert seen.ready is not None
    assert seen.ready.ok
    assert set(statuses(seen).values()) == {Status.PASS}


def test_a_line_of_its_output_file_makes_it_ready_and_its_last_lines_are_kept(tmp_path):
    path = tmp_path / "out-web"

    def writes(units: Units, _unit: Unit) -> None:
        units.machine.later(1, lambda: path.write_text("listening on 1\n"))

    seen = Trial(tmp_path, Program(does=writes), LOG, journal=False).one()
    assert seen.ready is not None
    assert 1 <= seen.ready.seconds < 1.2
    assert seen.log == ("listening on 1",)


def test_output_that_is_there_already_is_read_without_a_pause(tmp_path):
    """Twenty pieces: with a pause after each it would take a second."""
    (tmp_path / "out-web").write_text((1 << 18) * 20 * "y" + "\nlistening on 1\n")
    seen = Trial(tmp_path, Program(), LOG, journal=False).one()
    assert seen.ready is not None
    assert seen.ready.ok
    assert seen.ready.seconds < 0.2


@pytest.mark.parametrize(("text", "why"), [("nothing\n", "no line of its log matches '^listening on \\\\d'")])
def test_a_log_without_the_line(tmp_path, text, why):
    (tmp_path / "out-web").write_text(text)
    trial = Trial(tmp_path, Program(), LOG, journal=False)
    seen = trial.one()
    assert seen.ready is not None
    assert seen.ready.why == why


def test_a_line_that_went_to_the_journal_and_not_to_the_output_makes_it_ready(tmp_path):
    """Looked for once the output has had its time."""
    trial = Trial(tmp_path, Program(), LOG, journal=False)
    trial.units.last_lines = "listening on"
    seen = trial.one()
    assert seen.ready is not None
    assert seen.ready.ok
    assert 2 <= seen.ready.seconds < 2.5


def test_the_journal_is_looked_at_once_more_before_the_time_is_over(tmp_path):
    """And seldom before."""
    trial = Trial(tmp_path, Program(), LOG, journal=False)
    looks = []

    def log(invocation, lines):
        looks.append(trial.machine.now)
        return ("listening on 1",) if len(looks) == 8 else ()

    trial.units.log = log
    seen = trial.one()
    assert seen.ready is not None
    assert seen.ready.ok
    assert 29.5 <= seen.ready.seconds < 30


def test_only_the_last_whole_lines_of_a_long_output_are_kept(tmp_path):
    (tmp_path / "out-web").write_text("listening on 1\n" + "x" * 70_000 + "\n" + "".join(f"{n}\n" for n in range(10)))
    seen = Trial(tmp_path, Program(), LOG, journal=False).one()
    assert seen.log == tuple(map(str, range(10)))
    (tmp_path / "out-web").write_text("listening on 1\n" + "".join(f"{n}\n" for n in range(30)))
    assert Trial(tmp_path, Program(), LOG, journal=False).one().log == tuple(map(str, range(10, 30)))


def test_what_a_service_that_failed_sent_to_syslog_is_part_of_its_log(tmp_path):
    """journald cannot tell the unit of a process that ended at once, but its number."""
    (tmp_path / "out-web").write_text("".join(f"{n}\n" for n in range(30)))
    trial = Trial(tmp_path, Program(ends_after=0.1, ended=Exit(how=How.EXITED, status=1)), journal=False)
    asked = []

    def log(invocation, lines, pid=0):
        asked.append((invocation, lines, pid))
        return ("cannot open the key",)

    trial.units.log = log
    seen = trial.one()
    assert seen.log == (*map(str, range(11, 30)), "cannot open the key")
    ((invocation, lines, pid),) = asked
    assert (invocation, lines) == ("0" * 32, 10)
    assert pid > 0


def test_output_that_was_never_written_is_no_error(tmp_path):
    assert Trial(tmp_path, journal=False).one().log == ()


def test_one_that_ends_while_another_is_asked_again_has_ended_early(tmp_path):
    """The second look at the silent service takes seconds, in which the other one ends by itself."""
    other = TEXT.split("[services.web]", 1)[1].replace("8080", "8081").replace("services.web", "services.other")
    text = f"{TEXT}[services.other]{other}"
    trial = Trial(tmp_path, Program(address=URL, ends_after=7.0, ended=Exit(how=How.EXITED, status=3)), text)
    silent = Program(address=URL.replace("8080", "8081"), hangs_after=3.0)
    trial.units.programs[f"{SCOPE}-other.service"] = silent
    found = {item.service.label: item for item in trial.run()}
    assert found["other"].silent
    assert found["web"].ended_early
    assert found["web"].stay is None
    assert statuses(found["web"])["CGP503"] is Status.FAIL


def test_a_hung_service_is_not_a_pass(tmp_path):
    seen = Trial(tmp_path, Program(address=URL, hangs_after=3.0)).one()
    assert seen.silent == f"connection refused at {URL}"
    assert statuses(seen)["CGP505"] is Status.FAIL


def test_one_that_is_busy_for_a_moment_is_asked_again(tmp_path):
    def comes_back(units: Units, _unit: Unit) -> None:
        units.machine.later(5.0, lambda: units.machine.listening.discard(URL))
        units.machine.later(7.0, lambda: units.machine.listening.add(URL))

    assert Trial(tmp_path, Program(address=URL, does=comes_back)).one().silent == ""


def test_what_answers_before_the_start_blocks(tmp_path):
    trial = Trial(tmp_path)
    trial.machine.listening.add(URL)
    seen = trial.one()
    assert seen.ready is not None
    assert (seen.ready.blocked, seen.ready.ok, seen.cgroup) == (True, False, "")
    assert seen.ready.why == "another program already answers"
    assert statuses(seen) == {"CGP507": Status.UNVERIFIED}
    assert not trial.units.units
    assert not trial.units.calls


def test_the_words_of_a_refusal_are_kept(tmp_path):
    seen = Trial(tmp_path, Program(refused="Unit x.service already exists.")).one()
    assert seen.refused == "Unit x.service already exists."
    (found,) = service_findings(seen, required=(), swap=False)
    assert (found.code, found.status) == ("CGP507", Status.UNVERIFIED)
    assert "Unit x.service already exists." in found.message


def test_a_unit_that_never_gets_a_cgroup(tmp_path):
    seen = Trial(tmp_path, Program(never_runs=True)).one()
    assert seen.cgroup == ""
    assert all(isinstance(item.actual, Missing) for item in seen.limits if item.unit == WEB)
    assert statuses(seen)["CGP507"] is Status.UNVERIFIED


def test_a_unit_without_a_gate_runs_all_the_same(tmp_path):
    assert set(statuses(Trial(tmp_path, Program(address=URL, gate=False)).one()).values()) == {Status.PASS}


def test_a_child_that_is_called_sleep_is_not_taken_for_the_gate(tmp_path):
    """The main process ends at SIGTERM, its child does not: systemd still waits, and has not started its own `sleep`."""
    trial = Trial(tmp_path, Program(address=URL, stop_after=None))
    stop = trial.units.stop

    def stopping(names) -> None:
        stop(names)
        unit = trial.units.units[WEB]
        trial.machine.spawn("sleep", unit.cgroup)
        unit.main.alive = False
        trial.machine.end(unit.main)
        unit.phase = Phase.STOPPING

    def killed(names) -> None:
        trial.units.calls.append(("kill", tuple(names)))
        unit = trial.units.units[WEB]
        unit.main.alive = True
        trial.units.finish(unit, Exit(how=How.KILLED, status=15), "success")

    trial.units.stop, trial.units.kill = stopping, killed
    seen = trial.one()
    assert seen.killed
    assert statuses(seen)["CGP506"] is Status.FAIL
    assert ("kill", (WEB,)) in trial.units.calls


def test_one_that_ignores_sigterm_is_killed_and_says_so(tmp_path):
    trial = Trial(tmp_path, Program(address=URL, stop_after=None))
    seen = trial.one()
    assert seen.killed
    assert ("kill", (WEB,)) in trial.units.calls
    assert statuses(seen)["CGP506"] is Status.FAIL
    assert len(seen.outlasting) == 1
    assert seen.outlasting[0].endswith("--work")


def test_the_limits_of_one_that_was_killed_are_those_it_ran_under(tmp_path):
    """Its cgroup is gone in the end, and those above it have other limits."""
    trial = Trial(tmp_path, Program(address=URL, stop_after=None))
    trial.machine.write("/user.slice", pids_max="9999\n")
    assert trial.one().effective.tasks != 9999
    assert trial.one().effective.tasks is not None


@pytest.mark.parametrize(("ends_after", "killed"), [(2.0, False), (9.0, True)])
def test_the_time_of_a_stop_begins_with_the_signal(tmp_path, ends_after, killed):
    """The manager needs 20 s to send it, longer than the stop_timeout of 3 s."""
    trial = Trial(tmp_path, Program(address=URL, stop_after=None))

    def stopping(names) -> None:
        unit = trial.units.units[WEB]
        unit.phase = Phase.BEFORE_SIGNAL

        def signal() -> None:
            unit.phase = Phase.STOPPING
            ended = Exit(how=How.KILLED, status=15)
            trial.machine.later(ends_after, lambda: trial.units.finish(unit, ended, "success"))

        trial.machine.later(20.0, signal)

    trial.units.stop = stopping
    seen = trial.one()
    assert seen.killed is killed
    assert statuses(seen).get("CGP506") is (Status.FAIL if killed else None)


def test_a_manager_that_never_sends_the_signal_is_not_waited_for(tmp_path):
    trial = Trial(tmp_path, Program(address=URL, stop_after=None))

    def stopping(names) -> None:
        trial.units.units[WEB].phase = Phase.BEFORE_SIGNAL

    trial.units.stop = stopping
    assert trial.one().killed
    assert 120 < trial.machine.now - 1000 < 200


def test_one_that_stops_in_time_is_not_killed(tmp_path):
    trial = Trial(tmp_path, Program(address=URL, stop_after=2.8))
    assert not trial.one().killed
    assert [name for name, _ in trial.units.calls] == ["stop"]


def test_a_unit_that_outlives_its_kill_is_waited_for_no_longer(tmp_path):
    trial = Trial(tmp_path, Program(address=URL, stop_after=None, dies_at_kill=False))
    seen = trial.one()
    assert seen.killed
    assert seen.state.phase is Phase.STOPPING
    assert trial.machine.now < 1100


def stray(units: Units, unit: Unit, cgroup: str, *, environ: str = "", parent: int | None = None):
    return units.machine.spawn("child", cgroup, parent=unit.main.pid if parent is None else parent, environ=environ)


@pytest.mark.parametrize("known", [True, False])
def test_a_child_in_another_cgroup_is_found_and_ended(tmp_path, known):
    children = []

    def leaves(units: Units, unit: Unit) -> None:
        children.append(stray(units, unit, "/user.slice" if known else ""))
        if not known:
            units.machine.files[f"/proc/{children[0].pid}/cgroup"] = "junk"

    trial = Trial(tmp_path, Program(address=URL, does=leaves))
    seen = trial.one()
    assert seen.stay is not None
    assert seen.stay.strays == ((children[0].pid, "/user.slice (child --work)" if known else "an unknown cgroup"),)
    assert statuses(seen)["CGP502"] is Status.FAIL
    assert trial.machine.signals[-1:] == ([(children[0].pid, signal.SIGKILL)] if known else trial.machine.signals[-1:])


@pytest.mark.parametrize("main", [False, True])
def test_a_cgroup_that_copies_the_name_of_the_removed_unit_is_not_the_unit(tmp_path, main):
    """The kernel marks a removed cgroup with the same words; a program of root's can make a folder of that name."""
    copy = f"{CGROUP} (deleted)"

    def leaves(units: Units, unit: Unit) -> None:
        units.machine.cgroups.add(copy)
        if main:
            unit.main.cgroup = copy
        else:
            stray(units, unit, copy)

    seen = Trial(tmp_path, Program(address=URL, does=leaves)).one()
    assert statuses(seen)["CGP502"] is Status.FAIL


def test_a_child_below_its_unit_is_no_stray(tmp_path):
    seen = Trial(tmp_path, Program(address=URL, does=lambda units, unit: stray(units, unit, f"{CGROUP}/sub"))).one()
    assert seen.stay is not None
    assert seen.stay.strays == ()


def test_a_process_that_left_with_its_parents_gone_is_found_by_its_invocation_and_ended(tmp_path):
    children = []

    def daemon(units: Units, unit: Unit) -> None:
        environ = f"A=1\0INVOCATION_ID={unit.invocation}\0"
        children.append(stray(units, unit, "/system.slice", environ=environ, parent=1))

    trial = Trial(tmp_path, Program(address=URL, does=daemon))
    seen = trial.one()
    assert seen.stay is not None
    assert seen.stay.strays == ((children[0].pid, "/system.slice (child --work)"),)
    assert (children[0].pid, signal.SIGKILL) in trial.machine.signals
    assert statuses(seen)["CGP502"] is Status.FAIL


def test_what_a_job_left_elsewhere_is_found_though_nobody_looked_while_it_ran(tmp_path):
    def daemon(units: Units, unit: Unit) -> None:
        stray(units, unit, "/system.slice", environ=f"INVOCATION_ID={unit.invocation}\0", parent=1)

    seen = Trial(tmp_path, Program(ends_after=1.0, does=daemon), JOB).one()
    assert statuses(seen)["CGP502"] is Status.FAIL


def test_a_stray_that_may_not_be_signalled_is_still_told(tmp_path):
    def leaves(units: Units, unit: Unit) -> None:
        units.machine.denied.add(stray(units, unit, "/user.slice").pid)

    assert statuses(Trial(tmp_path, Program(address=URL, does=leaves)).one())["CGP502"] is Status.FAIL


def test_a_stray_that_ended_meanwhile_or_whose_number_is_anothers_is_not_ended(tmp_path):
    def leaves(units: Units, unit: Unit) -> None:
        pid = stray(units, unit, "/user.slice").pid
        units.machine.open = lambda number, opens=units.machine.open: None if number == pid else opens(number)

    trial = Trial(tmp_path, Program(address=URL, does=leaves))
    assert statuses(trial.one())["CGP502"] is Status.FAIL
    assert signal.SIGKILL not in [number for _, number in trial.machine.signals]


def test_a_gate_that_may_not_be_signalled_is_opened_by_the_engine(tmp_path):
    trial = Trial(tmp_path)
    spawn = trial.machine.spawn

    def denied(comm: str, cgroup: str, **more):
        made = spawn(comm, cgroup, **more)
        if comm == "(sleep)":
            trial.machine.denied.add(made.pid)
        return made

    trial.machine.spawn = denied
    assert set(statuses(trial.one()).values()) == {Status.PASS}
    assert ("open_gates", (WEB,)) in trial.units.calls


def test_a_main_process_that_ends_before_its_handle_is_open(tmp_path):
    seen = reaped(Trial(tmp_path, Program(address=URL, ends_after=9.0))).one()
    assert seen.ready is not None
    assert not seen.ready.ok
    assert seen.ended_early


def test_services_do_not_wait_for_each_other(tmp_path):
    """One fails at once, one lasts: each is seen for itself, and the ended one keeps its own duration."""
    text = TEXT + '[services.job]\nbinary = "b"\n[services.job.smoke]\nready = "exit"\nduration = "1s"\n'
    trial = Trial(tmp_path, text=text)
    trial.units.programs[f"{SCOPE}-job.service"] = Program(
        ends_after=0.5, ended=Exit(how=How.EXITED, status=1), result="exit-code"
    )
    seen = {one.service.label: one for one in trial.run()}
    assert statuses(seen["web"])["CGP503"] is Status.PASS
    assert statuses(seen["job"])["CGP503"] is Status.FAIL
    assert 0.5 <= seen["job"].duration_seconds < 0.7


def test_all_that_is_open_is_closed_when_the_engine_fails(tmp_path):
    trial = Trial(tmp_path)

    def fails(_units: object) -> None:
        raise HostError("gone", remedy=None)

    trial.units.stop = fails
    with pytest.raises(HostError):
        trial.run()
    assert not trial.machine.handles


def test_the_last_look_at_a_unit_is_a_whole_one(tmp_path):
    """A kill for want of memory becomes the result when systemd learns of it, and the phase stays the same."""
    trial = Trial(tmp_path, Program(ends_after=0.0, ended=Exit(how=How.KILLED, status=9), result="signal"))
    trial.units.stop = lambda units: [setattr(trial.units.units[name], "result", "oom-kill") for name in units]
    seen = trial.one()
    assert (seen.state.phase, seen.state.result) == (Phase.AFTER_END, "oom-kill")
    assert statuses(seen)["CGP504"] is Status.FAIL


def leaves(seconds: float | None):
    """The main process leaves a child behind, which ends after `seconds`."""

    def does(units: Units, unit: Unit) -> None:
        child = units.machine.spawn("worker", unit.cgroup)
        if seconds is not None:
            units.machine.later(seconds, lambda: units.machine.end(child))

    return does


@pytest.mark.parametrize("text", [TEXT, JOB])
def test_one_that_goes_to_the_background_is_a_fail_and_not_a_job(tmp_path, text):
    seen = Trial(tmp_path, Program(ends_after=0.5, does=leaves(None)), text).one()
    assert seen.left == 1
    assert statuses(seen)["CGP503"] is Status.FAIL
    (found,) = [item for item in service_findings(seen, required=(), swap=False) if item.code == "CGP503"]
    assert "1 process(es) still run" in found.message
    assert "foreground" in found.remedies[0].title
    assert "exit" not in found.remedies[0].title


def reaped(trial: Trial) -> Trial:
    """The manager collects the main process before a handle of it can be opened."""
    trial.machine.open = lambda number, opens=trial.machine.open: (
        None if trial.machine.processes[number].comm == "app" else opens(number)
    )
    return trial


@pytest.mark.parametrize("ends_after", [0.0, 0.015, 0.5])
@pytest.mark.parametrize("text", [TEXT, JOB])
def test_one_that_goes_to_the_background_before_its_handle_is_open_is_a_fail(tmp_path, text, ends_after):
    seen = reaped(Trial(tmp_path, Program(ends_after=ends_after, does=leaves(None)), text)).one()
    assert seen.left == 1
    (found,) = [item for item in service_findings(seen, required=(), swap=False) if item.code == "CGP503"]
    assert found.status is Status.FAIL
    assert "1 process(es) still run" in found.message
    assert "exit" not in found.remedies[0].title


def test_a_job_that_ends_before_its_handle_is_open_passes(tmp_path):
    seen = reaped(Trial(tmp_path, Program(ends_after=0.0), JOB)).one()
    assert seen.left == 0
    assert statuses(seen)["CGP503"] is Status.PASS


@pytest.mark.parametrize("seconds", [0.2, 1.2])
def test_a_child_that_ends_soon_after_the_job_is_no_background(tmp_path, seconds):
    seen = Trial(tmp_path, Program(ends_after=0.5, does=leaves(seconds)), JOB).one()
    assert seen.left == 0
    assert statuses(seen)["CGP503"] is Status.PASS


def test_the_limits_of_a_job_are_read_again_after_its_end(tmp_path):
    def raises(units: Units, unit: Unit) -> None:
        units.machine.later(0.3, lambda: units.machine.write(unit.cgroup, memory_max="max"))

    assert statuses(Trial(tmp_path, Program(ends_after=0.5, does=raises), JOB).one())["CGP501"] is Status.FAIL
    assert set(statuses(Trial(tmp_path, Program(ends_after=0.5), JOB).one()).values()) == {Status.PASS}


def test_a_gate_that_starts_late_is_no_service_that_does_not_end(tmp_path):
    """On a busy machine: the service ends in time, and its gate starts after the time is over."""
    trial = Trial(tmp_path, Program(address=URL))
    after_end, units = trial.units._after_end, trial.units

    def late(unit: Unit) -> None:
        unit.phase = Phase.STOPPING
        trial.machine.end(unit.main)
        trial.machine.later(4.0, lambda: after_end(unit))

    units._after_end = late
    seen = trial.one()
    assert not seen.killed
    assert set(statuses(seen).values()) == {Status.PASS}


@pytest.mark.parametrize(("stop_after", "killed"), [(1.0, False), (None, True)])
def test_the_time_to_stop_begins_with_the_signal(tmp_path, stop_after, killed):
    """The gate before it runs under the quota of the service, which may be small."""
    trial = Trial(tmp_path, Program(address=URL, stop_after=stop_after, signal_after=6.0))
    begun = trial.machine.now
    seen = trial.one()
    assert seen.killed is killed
    assert statuses(seen).get("CGP506") is (Status.FAIL if killed else None)
    assert 6.0 < trial.machine.now - begun < 30.0


def test_a_child_that_outlasts_the_main_process_is_waited_for_although_the_gate_has_begun(tmp_path):
    trial = Trial(tmp_path, Program(address=URL))

    def with_child(unit: Unit) -> None:
        trial.machine.end(unit.main)
        trial.machine.spawn("stubborn", unit.cgroup)
        unit.phase = Phase.AFTER_END
        unit.gate = trial.machine.spawn("sleep", unit.cgroup)

    trial.units._after_end = with_child
    seen = trial.one()
    assert seen.killed
    assert statuses(seen)["CGP506"] is Status.FAIL
    assert trial.machine.now < 1060, "its time began with the signal that ended the main process"
    # Others who have their turn meanwhile sleep by a clock that takes no samples.
    assert max(one.longest_gap for one in seen.watched) < 0.5


def test_what_a_job_used_is_known_although_its_cgroup_goes_before_the_unit_is_stopped(tmp_path):
    trial = Trial(tmp_path, Program(ends_after=0.5), JOB)
    after_end = trial.units._after_end

    def removed(unit: Unit) -> None:
        for path in [path for path in trial.machine.files if path.startswith(f"{MOUNT}{CGROUP}/")]:
            del trial.machine.files[path]
        after_end(unit)

    trial.units._after_end = removed
    seen = trial.one()
    assert seen.counters is not None
    assert seen.counters.memory_peak.value == 4096
    assert seen.effective is not None
    assert seen.effective.memory_bytes == 64 << 20
    assert set(statuses(seen).values()) == {Status.PASS}


def test_what_is_done_meanwhile_begins_when_all_are_ready_and_leaves_no_sample_out(tmp_path):
    trial, began = Trial(tmp_path), []

    def meanwhile(pause: Callable[[], None]) -> None:
        began.extend(trial.said[-1:])
        for _ in range(5):
            trial.machine.now += 0.2
            pause()

    (seen,) = trial.run(meanwhile)
    assert began == ["running the services under their limits"]
    assert seen.watched[0].longest_gap < 0.3


def test_a_slice_is_counted_when_its_last_service_has_ended(tmp_path):
    """What happens there from then on is none of the services: probes may have begun."""
    text = TWO_SLICES.format(quota="", own="")
    trial = Trial(tmp_path, text=text)
    quick, slow, top = (f"{SCOPE}{name}.slice" for name in ("-quick", "-slow", ""))
    trial.units.programs |= {
        f"{SCOPE}-a.service": Program(),
        f"{SCOPE}-b.service": Program(stop_after=1.0),
    }
    states: list[tuple[bool, ...]] = []

    def between(services: Services) -> None:
        states.append(tuple(map(services.over, (quick, slow, top))))
        if services.over(quick):
            trial.machine.write(slice_cgroup(quick), memory_peak="8192")

    trial.between = between
    a, b = trial.run()
    assert list(dict.fromkeys(states)) == [(False, False, False), (True, False, False)]
    assert {level.cgroup: level.memory_peak.value for one in (a, b) for level in one.slices} == {
        slice_cgroup(quick): 4096, slice_cgroup(slow): 4096, slice_cgroup(top): 4096,
    }  # fmt: skip


def test_a_quota_that_is_lifted_while_services_stop_is_none_of_a_watched_slice(tmp_path):
    """The processes of a quota end sooner without it; samples of the slices are taken until the last service has ended."""
    text = TWO_SLICES.format(quota='CPUQuota = "60%"', own='CPUQuota = "50%"')
    trial = Trial(tmp_path, text=text)
    trial.units.programs |= {f"{SCOPE}-a.service": Program(), f"{SCOPE}-b.service": Program(stop_after=3.0)}
    machine, units, inputs = trial.machine, trial.units, list[int]()

    def started(launch: Launch, unit: Unit) -> None:
        if not launch.input:
            return
        output = Path(launch.output)
        output.write_text("up 7\n")
        inputs.append(os.open(launch.input, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC))

        def tick(handle: int = inputs[-1]) -> None:
            with contextlib.suppress(BlockingIOError):
                for line in os.read(handle, 4096).decode().splitlines():
                    if line.startswith("cpu"):
                        machine.files[f"{MOUNT}{unit.cgroup}/cpu.stat"] = "usage_usec 1000\nnr_throttled 3\n"
                    elif line.startswith("drop"):
                        # Longer than from one sample to the next.
                        machine.later(0.3, lambda: output.write_text(output.read_text() + "over 0\n"))

        machine.ticks.append(tick)

    units.on_started = started
    capacity = Capacity(cpus=2, available_bytes=4 << 30)
    probes, _ = plan_probes(trial.plan, NUMBERS, capacity)
    payloads = ServicePayloads(units, machine, units.slices, str(tmp_path), None)
    made = Probes(units, machine.observer(), machine.door(), units.slices, payloads)
    begun: list[float] = []

    def turns(services: Services, steps: Steps) -> tuple[ServiceEvidence, ...]:
        seen: list[ServiceEvidence] = []

        def meanwhile() -> Iterator[None]:
            seen.extend((yield from steps))
            begun.append(made.burning)

        next(steps)
        may_begin = partial(_may_begin, services, SCOPE)
        evidence = made.run_all(SCOPE, probes, lambda _: None, meanwhile(), capacity, may_begin=may_begin)
        assert all(one.said for one in evidence)
        return tuple(seen)

    a, b = trial.run(drive=turns)
    for handle in inputs:
        os.close(handle)
    assert begun, "the services have stopped while a quota was pushed against"
    assert not [change for one in (a, b) for level in one.watched for change in level.changes]
