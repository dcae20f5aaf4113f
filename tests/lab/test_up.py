"""`up` on a real systemd: as root, through sudo and with the user's manager. One guest for all.

Each case has both sides: a service that dies and one that runs on, an address that is taken and one that is free.
"""

import shlex
from collections.abc import Iterator

import pytest

from tests.lab.configs import ENVIRONMENT, Lab, config, fixture, service

pytestmark = pytest.mark.requires("v2", "systemd", "memory", "cpu", "pids")

_BAD = "#!/bin/sh\necho up\nsleep 0.5\nexit 3\n"
_CRASH = "#!/bin/sh\necho up\nsleep 0.5\nkill -SEGV $$\n"
_DONE = "#!/bin/sh\necho up\nsleep 0.5\n"
_TALKS = '#!/bin/sh\necho "up $NAME $FROM_FILE"\nexec sleep 300\n'
_URL = "http://127.0.0.1:18080/healthz"


class Up:
    """One `up` in the guest, whose stream goes to a file."""

    def __init__(self, lab: Lab, folder: str, *args: str, user: str | None = None) -> None:
        self._guest, self._lab = lab.guest, lab
        self.state = f"/tmp/up-{user or 'root'}"
        self._out = f"{self.state}.out"
        lab.shell(f"rm -rf {self.state} {self._out}")
        words = shlex.join(["python3", "-m", "cgroup_preflight", "up", *args])
        env = (
            ENVIRONMENT
            | {"XDG_STATE_HOME": self.state}
            | ({"XDG_RUNTIME_DIR": "/run/user/1000"} if user == "tester" else {})
        )
        script = f"exec {words} >{self._out} 2>&1"
        self._job = self._guest.spawn(["sh", "-c", script], user=user, env=env, cwd=folder)

    @property
    def text(self) -> str:
        return self._guest.read_file(self._out).decode()

    def wait_for(self, *texts: str, seconds: float = 150) -> None:
        """Waits until the stream has all of these."""
        for text in texts:
            done = self._guest.run(
                ["timeout", f"{seconds:g}", "sh", "-c", 'until grep -qE -- "$0" "$1"; do sleep 0.1; done', text, self._out],
                timeout=seconds + 20,
            )  # fmt: skip
            if done.returncode != 0:
                # The guest is shared.
                self._guest.signal(self._job, 2, group=True)
                self._guest.wait(self._job, timeout=90)
            assert done.returncode == 0, f"no {text!r} in:\n{self.text}"

    def end(self, *, ctrl_c: bool = True) -> tuple[int, list[str]]:
        """Its exit status and its lines, after Ctrl-C as a terminal sends it: to the whole process group."""
        if ctrl_c:
            self._guest.signal(self._job, 2, group=True)
        done = self._guest.wait(self._job, timeout=90)
        text = self.text
        assert not done.timed_out, text
        assert self._lab.leftovers() == [], text
        return done.returncode, text.splitlines()


def _config() -> dict[str, object]:
    return config(
        {
            "web": fixture("server", "-port=18080", ready=_URL, slice="api", MemoryMax="96M", CPUQuota="50%"),
            "greedy": fixture("hog", "-max=200", "-step=4", "-pause=5ms", slice="api", MemoryMax="48M"),
            "bad": service("bad", ready="log:up", slice="api"),
            "crash": service("crash", ready="log:up", slice="api"),
            "done": service("done", ready="log:up", slice="api"),
            "talks": service("talks", ready="log:up", slice="api", EnvironmentFile="/var/tmp/lab/up/file.env"),
        },
        {"api": {"MemoryMax": "400M"}},
    )


@pytest.fixture(scope="module")
def lab(request: pytest.FixtureRequest) -> Iterator[Lab]:
    """The guest, with a manager of the user `tester` in it."""
    guest = request.getfixturevalue("boot")()
    guest.start_user_manager("tester")
    yield Lab(guest)


@pytest.fixture(scope="module")
def folder(lab: Lab, fixtures: object) -> str:
    """The config and its programs, where every user can read them."""
    assert fixtures
    scripts = {"bad": _BAD, "crash": _CRASH, "done": _DONE, "talks": _TALKS}
    made = lab.write("up", _config(), scripts)
    lab.guest.write_file(f"{made}/.env", b"NAME='from .env'\n")
    lab.guest.write_file(f"{made}/file.env", b"FROM_FILE=from-file\n")
    lab.shell("chmod -R a+rX /var/tmp/lab")
    return made


WAYS = {
    "root": ((), None, "systemd"),
    "user's manager": (("--engine=user",), "tester", "user"),
    "sudo": (("--engine=systemd",), "runner", "systemd"),
}


@pytest.mark.parametrize("way", WAYS)
def test_services_run_die_with_their_cause_and_leave_nothing(lab: Lab, folder: str, way: str) -> None:
    args, user, engine = WAYS[way]
    up = Up(lab, folder, *args, "--table", user=user)
    up.wait_for(
        "^web +[|] ready after", "^greedy +[|] killed", "^bad +[|] ended", "^crash +[|] ended", "^done +[|] ended",
        "^talks +[|] ready", "[|] web +runs +[0-9.]+/0.5",
    )  # fmt: skip
    answer = lab.shell(f"python3 -c 'import urllib.request as u; print(u.urlopen(\"{_URL}\").status)'")
    assert answer.strip() == "200"
    status, lines = up.end()
    text = "\n".join(lines)
    assert status == 0, text
    assert f"with the engine {engine};" in text
    assert [
        line
        for line in lines
        if line.startswith("greedy") and "killed by the kernel for memory: peak 48M, limit 48M of" in line
    ], text
    assert "bad    | ended with exit status 3" in lines
    assert "crash  | ended by signal SIGSEGV" in text
    assert "done   | ended with exit status 0" in lines
    assert "talks  | up from .env from-file" in lines
    assert "web    | stopped" in lines
    assert "talks  | stopped" in lines
    owner = lab.shell(f"stat -c %U {up.state}/cgroup-preflight/lab/logs/*.log | sort -u").split()
    assert owner == [user or "root"]
    # The services' own lines are in the files too, also those of a service that has ended.
    assert lab.shell(f"cat {up.state}/cgroup-preflight/lab/logs/bad.log") == "up\n"


@pytest.mark.parametrize("way", ["root", "user's manager"])
def test_restart_pauses_longer_each_time_and_only_after_a_failure(lab: Lab, folder: str, way: str) -> None:
    args, user, _ = WAYS[way]
    up = Up(lab, folder, *args, "--restart", "bad", "done", "talks", user=user)
    # The user's manager takes a process for each question: two pauses show that a unit's name is free again.
    pauses = (1, 2) if user else (1, 2, 4)
    up.wait_for(*(f"starts again in {pause} s" for pause in pauses))
    _, lines = up.end()
    assert sum(line == "bad   | up" for line in lines) >= len(pauses)
    assert sum(line == "done  | up" for line in lines) == 1
    assert sum(line == "talks | stopped" for line in lines) == 1


def test_it_ends_by_itself_with_status_1_when_all_have_ended_and_one_failed(lab: Lab, folder: str) -> None:
    status, lines = Up(lab, folder, "bad", "done").end(ctrl_c=False)
    assert status == 1, lines
    status, lines = Up(lab, folder, "done").end(ctrl_c=False)
    assert status == 0, lines


def test_an_address_that_is_taken_is_named_before_anything_starts(lab: Lab, folder: str) -> None:
    holder = lab.guest.spawn(["python3", "-m", "http.server", "--bind=127.0.0.1", "18080"])
    try:
        lab.until("python3 -c 'import socket; socket.create_connection((\"127.0.0.1\", 18080))'")
        status, lines = Up(lab, folder, "web", "talks").end(ctrl_c=False)
    finally:
        lab.guest.signal(holder, 9)
        lab.guest.wait(holder)
    assert status == 2, lines
    assert "web cannot listen at 127.0.0.1:18080: python3" in lines[0], lines
    assert not any(" ready after " in line for line in lines)


def test_logs_shows_the_files_of_up_where_the_journal_has_none_of_these_services(lab: Lab, folder: str) -> None:
    up = Up(lab, folder, "talks", "done")
    up.wait_for("^talks +[|] ready", "^done +[|] ended")
    up.end()
    done = lab.guest.run(
        ["python3", "-m", "cgroup_preflight", "logs", "talks", "done"], cwd=folder,
        env=ENVIRONMENT | {"XDG_STATE_HOME": up.state},
    )  # fmt: skip
    assert "talks  | up from .env from-file" in done.text, done
    assert "done   | up" in done.text, done
