"""`up` at the command line, as far as no cgroup is needed: what it refuses, and what --check shows."""

import socket
from contextlib import closing

import pytest

from cgroup_preflight.cli.up import Output
from cgroup_preflight.cli.up_guest import Forwarding, keep_in_guests
from cgroup_preflight.guest.relay import Forward, Listeners
from tests.unit.cli.calling import call

pytestmark = [pytest.mark.starts_processes, pytest.mark.timeout(120)]
HEAD = '[project]\nname = "shop"\n'
CONFIG = f"""{HEAD}
[slices.api]
MemoryMax = "64M"
[services.web]
binary = "web"
slice = "api"
MemoryMax = "32M"
build = ["/bin/sh", "-c", "echo built >marker"]
[services.web.smoke]
ready = "tcp://127.0.0.1:1"
[services.plain]
binary = "web"
"""


def test_check_shows_what_would_be_started_and_starts_nothing(tmp_path):
    called = call(tmp_path / "a", "up", "web", "--check", config=CONFIG, XDG_STATE_HOME="/state")
    assert called.status == 0, called
    assert "web in api.slice: MemoryMax=32M; listens at 127.0.0.1:1" in called.out
    assert "log: /state/cgroup-preflight/shop/logs/web.log" in called.out
    assert "build /bin/sh -c " in called.out
    assert "plain" not in called.out
    assert not (tmp_path / "a" / "marker").exists()


def test_a_build_that_fails_is_shown_with_its_last_lines_and_its_status(tmp_path):
    config = f'{HEAD}[services.web]\nbinary = "web"\nbuild = ["/bin/sh", "-c", "echo a.go:1: broken >&2; exit 4"]\n'
    called = call(tmp_path / "a", "up", config=config)
    assert called.status == 2
    assert "web: the build failed: exit status 4" in called.err
    assert "a.go:1: broken" in called.err


@pytest.mark.parametrize(
    ("words", "service", "more", "told"),
    [
        ((), 'binary = "none"', {}, "the file does not exist"),
        (("nobody",), 'binary = "none"', {}, "no service 'nobody'"),
        ((), 'unit = "nginx.service"', {}, "has a unit of its own"),
        ((), 'build = ["go", "build"]', {}, "has neither binary nor unit nor package"),
        ((), 'binary = "x"\nbuild = ["/bin/true"]', {}, "the file does not exist"),
        ((), 'binary = "x"\nbuild = ["no-such-go"]', {}, "cannot run no-such-go in "),
        ((), 'binary = "none"', {".env": "A=1\nbroken\n"}, ".env:2: not a variable: broken"),
        (("--env-file=no.env",), 'binary = "none"', {}, "no.env: cannot read the variables"),
        ((), 'binary = "none"', {".env": b"\xff"}, "it is not UTF-8 text"),
        ((), 'binary = "none"', {".env": "A=b\n" + "#" * (1 << 20)}, ".env: larger than 1M"),
        ((), 'binary = "none"\nbuild = ["x"]\nbuild_folder = "/elsewhere"', {}, "outside the folder of the config"),
    ],
)  # fmt: skip
def test_one_clear_line_for_each_mistake(tmp_path, words, service, more, told):
    folder = tmp_path / "a"
    folder.mkdir()
    for name, content in more.items():
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    called = call(folder, "up", *words, config=f"{HEAD}[services.web]\n{service}\n")
    assert called.status == 2
    assert told in called.err


def test_without_an_engine_it_says_why(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "web").touch(mode=0o755)
    called = call(tmp_path / "a", "up", "web", "--engine=user", config=CONFIG)
    assert (tmp_path / "a" / "marker").read_text() == "built\n"
    assert called.status == 3
    assert "no engine of this host can start services with these limits: user: " in called.err
    assert "cgroup-preflight up --engine guest" in called.err


def test_check_with_the_guest_names_it_and_what_leads_there(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "web").touch(mode=0o755)
    called = call(tmp_path / "a", "up", "--check", "--engine=guest", config=CONFIG)
    assert called.status == 0, called
    assert called.out.startswith("engine: guest\n")
    assert "127.0.0.1:1 leads to web in the guest\n" in called.out
    assert "`ready` names no port of plain: a port is forwarded when the service listens there" in called.out


def test_ports_where_services_of_a_guest_begin_to_listen_are_forwarded_where_they_are_free_here():
    said = []
    with socket.create_server(("127.0.0.1", 0)) as holder, socket.socket() as free:
        taken = holder.getsockname()[1]
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        free.close()
        with closing(Listeners([])) as listeners:
            forwarding = Forwarding(listeners, said.append)
            for address, number in (("0.0.0.0", port), ("127.0.0.1", port), ("::", taken), ("127.0.0.1", 80)):
                forwarding.begin("web", address, number)
            assert list(listeners.sockets.values()) == [Forward(host="127.0.0.1", port=port)]
            socket.create_connection(("127.0.0.1", port), timeout=5).close()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port), timeout=5)
    assert said == [
        f"127.0.0.1:{port} leads to web in the guest",
        f"web listens at port {taken}, which is not forwarded: Address already in use",
        "web listens at port 80; a port below 1024 is forwarded only if `ready` names it",
    ]


def test_a_hostile_guest_takes_some_ports_and_says_one_line_more():
    said = []
    with closing(Listeners([])) as listeners:
        forwarding = Forwarding(listeners, said.append)
        for port in range(1, 1000):
            forwarding.begin("web", "127.0.0.1", port)
        assert listeners.sockets == {}
    assert len(said) == 65
    assert said[-1] == "services in the guest listen at more than 64 ports; no more are forwarded"


def test_a_port_that_is_taken_is_named_before_a_guest_boots(tmp_path):
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        place = f"127.0.0.1:{holder.getsockname()[1]}"
        (tmp_path / "a").mkdir()
        (tmp_path / "a" / "web").touch(mode=0o755)
        config = CONFIG.replace("127.0.0.1:1", place)
        called = call(tmp_path / "a", "up", "web", "--engine=guest", config=config, XDG_STATE_HOME=str(tmp_path))
    assert called.status == 2, called
    assert f"web cannot listen at {place}: " in called.err
    assert "leads to" not in called.out


def test_a_stream_that_nobody_reads_ends_it_once():
    read = []
    output = Output(lambda text: not read.append(text) and len(read) < 2)
    output.write("a")
    with pytest.raises(KeyboardInterrupt):
        output.write("b")
    output.write("what is said while all are stopped")
    assert read == ["a", "b"]


class Played:
    """Changes of sources: whether there was one at the end of each guest."""

    def __init__(self, *taken, are_watched=True):
        self._taken, self.are_watched, self.waited = list(taken), are_watched, 0

    def taken(self):
        return self._taken.pop(0)

    def wait(self):
        self.waited += 1
        if not self._taken:
            raise KeyboardInterrupt


def test_each_change_boots_a_guest_and_services_that_ended_wait_for_one():
    changes, said, runs = Played(True, False), [], []
    with pytest.raises(KeyboardInterrupt):
        keep_in_guests(lambda: runs.append(1) or 0, changes, said.append)
    assert (len(runs), changes.waited) == (2, 1)
    assert said[-1] == "all services have ended; the guest boots again when a source changes"


def test_without_watching_the_end_of_the_guest_is_the_end():
    assert keep_in_guests(lambda: 1, Played(False, are_watched=False), print) == 1
