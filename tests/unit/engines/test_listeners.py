"""Who listens at an address: the service itself, another program that is named, or nobody knows, with the reason."""

import re
import subprocess
import sys
from types import SimpleNamespace

import pytest

from cgroup_preflight.config.keys import parse_ready
from cgroup_preflight.engines.listeners import Answerer, Listeners
from cgroup_preflight.host.local import LocalFiles
from tests.unit.engines.machine import Machine

TEST = parse_ready("http://127.0.0.1:8080/healthz")
OWN = "/a.slice/web.service"


def machine(**owners: str):
    """One process listens at the address; `owners` are its name and cgroup."""
    made = Machine()
    made.cgroups |= {OWN, f"{OWN}/child", "/b.slice/other.service"}
    process = made.spawn(owners.get("comm", "app"), owners.get("cgroup", OWN))
    made.listen(TEST.target, process)
    return made, process


def answerer(made: Machine) -> Answerer:
    return Listeners(made, made.observer()).answerer(TEST, OWN)


@pytest.mark.parametrize("cgroup", [OWN, f"{OWN}/child"])
def test_the_socket_of_the_service_or_of_a_cgroup_below_it(cgroup):
    assert answerer(machine(cgroup=cgroup)[0]) == Answerer()


def test_another_service_is_named():
    made, process = machine(comm="b", cgroup="/b.slice/other.service")
    assert answerer(made) == Answerer(other=f"b (PID {process.pid}) of other.service")


def test_systemd_that_listens_for_a_socket_unit_is_named_as_that():
    made, process = machine(comm="systemd", cgroup="/init.scope")
    assert answerer(made) == Answerer(other=f"systemd (PID {process.pid}), for a socket unit")


def test_a_socket_that_the_service_got_from_systemd_is_its_own_only_if_nobody_else_can_be_reached():
    made, _ = machine()
    other = made.spawn("proxy", "/b.slice/other.service")
    made.listen("127.0.0.1:8080", other)  # the same port again, by SO_REUSEPORT
    assert answerer(made).other.startswith("proxy ")


def test_a_process_that_cannot_be_looked_into_leaves_a_doubt():
    made, process = machine()
    made.denied.add(process.pid)
    assert answerer(made) == Answerer(doubt=f"/proc/{process.pid}/fd: denied (EACCES)")


def test_a_program_that_is_known_is_named_although_a_process_of_the_service_cannot_be_looked_into():
    made, process = machine(comm="b", cgroup="/b.slice/other.service")
    made.denied.add(made.spawn("app", OWN).pid)
    assert answerer(made) == Answerer(other=f"b (PID {process.pid}) of other.service")


def test_another_users_program_is_not_the_service():
    """All processes of the service could be read, and the socket is none of theirs."""
    made, process = machine(cgroup="/b.slice/other.service")
    made.denied.add(process.pid)
    assert answerer(made) == Answerer(other="a program of another user")


def test_an_address_without_a_socket_here_leaves_a_doubt():
    assert "no socket of this machine" in answerer(Machine()).doubt


def test_tables_that_cannot_be_read_leave_a_doubt():
    made = Machine()
    made.files["/proc/net/tcp"] = "head\nnonsense\n"
    assert "/proc/net/tcp: malformed" in answerer(made).doubt


def test_where_a_service_listens():
    made, process = machine()
    made.listen("127.0.0.1:81", process)
    listeners = Listeners(made, made.observer())
    assert listeners.addresses(OWN) == ("127.0.0.1:8080", "127.0.0.1:81")
    assert listeners.addresses("/b.slice/other.service") == ()


UNIX = parse_ready("unix:/run/app.sock")


@pytest.mark.parametrize(("cgroup", "other"), [(OWN, ""), ("/b.slice/other.service", "app (PID {}) of other.service")])
def test_a_unix_socket_is_the_services_own_or_is_not(cgroup, other):
    made = Machine()
    made.cgroups |= {OWN, "/b.slice/other.service"}
    process = made.spawn("app", cgroup)
    made.listen("/run/app.sock", process)
    listeners = Listeners(made, made.observer())
    assert listeners.answerer(UNIX, OWN) == Answerer(other=other.format(process.pid))
    assert listeners.addresses(cgroup) == ("/run/app.sock",)
    assert listeners.holder(UNIX) == f"app (PID {process.pid}) of {cgroup.rpartition('/')[2]}"


def test_a_unix_socket_that_another_service_bound_again_is_not_the_services_own():
    made = Machine()
    made.cgroups |= {OWN, "/b.slice/other.service"}
    made.listen("/run/app.sock", made.spawn("app", OWN))
    made.listen("/run/app.sock+", made.spawn("thief", "/b.slice/other.service"))
    assert Listeners(made, made.observer()).answerer(UNIX, OWN).other.startswith("thief ")


def test_a_unix_socket_with_another_name_leaves_a_doubt():
    """A path that is relative to the folder of the service, for example."""
    made = Machine()
    made.cgroups.add(OWN)
    made.listen("@/run/app.sock", made.spawn("app", OWN))
    assert "no socket of this machine" in Listeners(made, made.observer()).answerer(UNIX, OWN).doubt


def test_a_unix_socket_that_was_bound_through_a_link_is_the_same(tmp_path):
    """Debian's PostgreSQL binds its socket below /var/run, which is a link to /run."""
    (tmp_path / "run").mkdir()
    (tmp_path / "var").symlink_to("run")
    made = Machine()
    made.cgroups.add(OWN)
    made.listen(str(tmp_path / "var/app.sock"), made.spawn("app", OWN))
    listeners = Listeners(made, made.observer())
    assert listeners.answerer(parse_ready(f"unix:{tmp_path}/run/app.sock"), OWN) == Answerer()
    assert "no socket of this machine" in listeners.answerer(parse_ready(f"unix:{tmp_path}/run/b.sock"), OWN).doubt


def test_who_holds_an_address_before_the_run():
    made, process = machine(comm="systemd", cgroup="/init.scope")
    assert Listeners(made, made.observer()).holder(TEST) == f"systemd (PID {process.pid}), for a socket unit"
    assert Listeners(Machine(), Machine().observer()).holder(TEST) == ""


_FIRST_THREAD_ENDS = """
import ctypes, socket, threading, time
server = socket.create_server(("127.0.0.1", 0))
threading.Thread(target=time.sleep, args=(60,)).start()
print(server.getsockname()[1], flush=True)
ctypes.CDLL(None).pthread_exit(None)
"""


@pytest.mark.starts_processes
def test_the_socket_of_a_program_whose_first_thread_has_ended_is_its_own():
    """On this machine: only the kernel knows what /proc shows of it."""
    with subprocess.Popen((sys.executable, "-c", _FIRST_THREAD_ENDS), stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            port = process.stdout.readline().strip()
            while not re.search(r"\) Z ", _stat(process.pid)):
                pass
            observer = SimpleNamespace(processes=lambda _cgroup: frozenset({process.pid}))
            found = Listeners(LocalFiles(), observer).answerer(parse_ready(f"tcp://127.0.0.1:{port}"), OWN)
            assert found == Answerer()
        finally:
            process.kill()


def _stat(pid: int) -> str:
    with open(f"/proc/{pid}/stat") as file:
        return file.read()
