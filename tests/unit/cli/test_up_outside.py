"""`up` in an imported root from outside: programs of this machine play those of the guest."""

import os
import shutil
import signal
from contextlib import closing

import pytest

from cgroup_preflight.cli import up_outside
from cgroup_preflight.cli.up_outside import Meanwhile, NewProgramError
from cgroup_preflight.core.errors import ConfigError, ExitStatus, HostError
from cgroup_preflight.core.records import replace
from cgroup_preflight.core.report import Remedy
from cgroup_preflight.engines.choice import EngineChoice
from cgroup_preflight.guest.forwards import Forwards
from cgroup_preflight.guest.relay import Listeners
from cgroup_preflight.guest.spec import GuestError
from cgroup_preflight.guest.up import Handlers, first_interrupt
from cgroup_preflight.plan.build import build_plan
from cgroup_preflight.up.run import Request
from tests.unit.cli.test_guest_outside import ready
from tests.unit.host.fabricate import facts

__all__ = ["ready"]
pytestmark = [pytest.mark.starts_processes, pytest.mark.timeout(180)]
REMEDY = Remedy(title="x")


class Looked(Forwards):
    """Forwards that count how often they were looked at."""

    def __init__(self):
        self.looks = 0

    def look(self):
        self.looks += 1


def test_ctrl_c_and_a_new_program_end_the_services_once(monkeypatch):
    monkeypatch.setattr(up_outside, "_LOOK", 0.0)
    forwards, news = Looked(), []
    with first_interrupt() as interrupt:
        meanwhile = Meanwhile(forwards, interrupt, lambda: bool(news))
        meanwhile()
        os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            meanwhile()
        # While they stop, connections still are carried.
        news.append("web")
        meanwhile()
    assert forwards.looks == 3
    with first_interrupt() as interrupt:
        meanwhile = Meanwhile(forwards, interrupt, lambda: bool(news))
        with pytest.raises(NewProgramError):
            meanwhile()
        meanwhile()


@pytest.fixture
def request_here(ready):
    config = ready.task.config
    return Request(config=config, plan=build_plan(config), facts=facts(), choice=EngineChoice(name=None), variables={"NAME": "x"},
                   restart=True, watch=True)  # fmt: skip


def kept_up(request_here, ready):
    with closing(Listeners(())) as listeners:
        return up_outside._kept_up(request_here, ready, listeners, Handlers(write=lambda _: None, look=lambda: False))


def test_a_guest_whose_systemd_does_not_answer_starts_nothing(request_here, ready):
    with pytest.raises(HostError, match="systemd of the guest cannot start services"):
        kept_up(request_here, ready)


def test_services_run_with_the_paths_of_the_guest(request_here, ready, monkeypatch):
    seen, at = {}, up_outside.machine_at

    def with_engine(ready, asker):
        config, context, door = at(ready, asker)
        return config, replace(context, engine=EngineChoice(name="systemd")), door

    def run_on(request, machine, write, _progress):
        seen.update(request=request, machine=machine)
        write("a line\n")
        return ("web",)

    monkeypatch.setattr(up_outside, "machine_at", with_engine)
    monkeypatch.setattr(up_outside, "run_on", run_on)
    assert kept_up(request_here, ready) == ("web",)
    request, machine = seen["request"], seen["machine"]
    assert [item.binary for item in request.plan.services] == ["/run/preflight/in/project/web"]
    assert (request.inside, request.watch, request.restart, request.variables) == (True, False, True, {"NAME": "x"})
    assert machine.door.host == ready.guest.spec.name
    logs = machine.logs(["web", "api"])
    assert [os.path.basename(path) for path in logs.values()] == ["0.log", "1.log"]
    shutil.rmtree(os.path.dirname(logs["web"]))


@pytest.mark.parametrize(
    ("bad", "status"), [((), ExitStatus.PASS), (("web",), ExitStatus.FAIL), (NewProgramError(), ExitStatus.PASS)]
)
def test_the_exit_status(request_here, ready, monkeypatch, bad, status):
    assert _run(request_here, ready, monkeypatch, bad) == status


def test_what_fails_in_the_guest_is_told_and_an_error_of_the_config_stays_one(request_here, ready, monkeypatch):
    with pytest.raises(GuestError, match="could not run the services: cut"):
        _run(request_here, ready, monkeypatch, OSError("cut"))
    with pytest.raises(ConfigError):
        _run(request_here, ready, monkeypatch, ConfigError("too small", where="", remedy=REMEDY, findings=()))
    with pytest.raises(KeyboardInterrupt):
        _run(request_here, ready, monkeypatch, KeyboardInterrupt())


def _run(request_here, ready, monkeypatch, result):
    def ends(*_):
        if isinstance(result, BaseException):
            raise result
        return result

    class Entered:
        def __enter__(self):
            return ready

        def __exit__(self, *_):
            return None

    monkeypatch.setattr(up_outside, "ready_outside", lambda *_, **__: Entered())
    monkeypatch.setattr(up_outside, "_kept_up", ends)
    monkeypatch.setattr(up_outside, "failed", lambda _guest, _doing, what: GuestError(what, remedy=REMEDY))
    with closing(Listeners(())) as listeners:
        return up_outside.run_up_imported(
            request_here, ready.task, listeners, Handlers(write=print, look=lambda: False)
        )
