"""The engine cgroupfs on a real kernel: the same limits, proofs and probes as through systemd, and nothing left.

One guest for all; each environment is a way to enter a cgroup that was, or was not, delegated to the job.
"""

import json

import pytest

from cgroup_preflight.guest.session import Guest
from cgroup_preflight.guest.spec import CommandResult
from tests.lab.configs import ENVIRONMENT, Lab, Outcome, config, service

pytestmark = pytest.mark.requires("v2", "systemd", "memory", "cpu", "pids")

_SERVICE = """#!/bin/sh
cat /proc/self/cgroup
echo up
exec sleep 300
"""
#: A service that needs more than its limit: the honest twin of the same run does not.
_GREEDY = """#!/usr/bin/python3
print("up", flush=True)
block = bytearray(200 << 20)
for at in range(0, len(block), 4096):
    block[at] = 1
"""
_CONFIG = config(
    {
        "plain": service("plain", ready="log:up", slice="api", MemoryMax="64M", CPUQuota="50%", TasksMax="50"),
        "greedy": service("greedy", ready="log:up", slice="api", MemoryMax="32M"),
    },
    {"api": {"MemoryMax": "160M", "CPUWeight": 50}},
)
#: PID 1 is a shell, the cgroup is the root of a namespace, and no systemd can be seen: a container, or a plain init.
_BOX = (
    "mount --make-rprivate /; mount -t tmpfs none /run/systemd; umount /sys/fs/cgroup; mount -t cgroup2 none /sys/fs/cgroup;"
    ' exec "$@"'
)
_SCOPE = ("--scope", "--quiet", "--collect", "-p", "Delegate=yes")
_REPORT = "/tmp/cgroupfs.json"


class Job:
    """The command under test as a job in some cgroup; `words` come before it."""

    def __init__(self, lab: Lab, *words: str, user: str | None = None) -> None:
        self._lab, self._words, self._user = lab, words, user

    def run(self, folder: str, *args: str) -> tuple[CommandResult, Outcome]:
        env = ENVIRONMENT | ({"XDG_RUNTIME_DIR": "/run/user/1000"} if self._user else {})
        argv = ["python3", "-m", "cgroup_preflight", "run", "--engine=cgroupfs", f"--format=json={_REPORT}", *args]
        guest = self._lab.guest
        done = guest.run([*self._words, *argv], env=env, cwd=folder, user=self._user, timeout=300)
        written = guest.run(["sh", "-c", f"cat {_REPORT} && rm -f {_REPORT}"]).stdout
        report = json.loads(written) if written else {}
        assert self._lab.leftovers() == []
        return done, Outcome(exit_status=done.returncode, report=report, text=done.text, stderr=done.stderr.decode())


@pytest.fixture(scope="module")
def lab(request: pytest.FixtureRequest) -> Lab:
    """The guest, with a manager of the user `tester` in it."""
    guest: Guest = request.getfixturevalue("boot")()
    guest.start_user_manager("tester")
    return Lab(guest)


@pytest.fixture(scope="module")
def folder(lab: Lab) -> str:
    """The config and its programs, where every user can read them."""
    made = lab.write("cgroupfs", _CONFIG, {"plain": _SERVICE, "greedy": _GREEDY})
    lab.shell(f"chmod -R a+rX /var/tmp/lab {made}")
    return made


ENTERED = {
    "delegated scope of root": (("systemd-run", *_SCOPE), None),
    "delegated scope of a user": (("systemd-run", "--user", *_SCOPE), "tester"),
    "private namespace without systemd": (
        ("systemd-run", *_SCOPE, "unshare", "--cgroup", "--mount", "--pid", "--fork", "--mount-proc", "sh", "-euc", _BOX, "sh"),
        None,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", ENTERED)
def test_limits_are_in_force_act_and_leave_nothing(lab: Lab, folder: str, name: str) -> None:
    words, user = ENTERED[name]
    done, outcome = Job(lab, *words, user=user).run(folder)
    assert outcome.report, done
    assert outcome.report["host"]["engine"] == "cgroupfs"
    limits = outcome.limits("plain")
    assert limits["plain.service/memory.max"] == str(64 << 20)
    assert limits["plain.service/cpu.max"] == "50000 100000"
    assert limits["plain.service/pids.max"] == "50"
    assert limits["api.slice/cpu.weight"] == "50"
    # Both ways: the greedy one is killed at its limit, its neighbour passes, and each probe saw the kernel act.
    assert outcome.statuses("plain").get("CGP505", "pass") == "pass"
    assert outcome.verdict == "fail"
    assert any(
        "killed a process for memory" in item["message"]
        for item in outcome.report["findings"]
        if item["subject"] == "greedy"
    )
    assert all(item["status"] == "pass" for item in outcome.findings("CGP511", "plain"))


def test_the_cgroup_of_the_job_is_as_it_was(lab: Lab, folder: str) -> None:
    script = (
        'own=/sys/fs/cgroup$(sed -n s/^0:://p /proc/self/cgroup); before=$(cat "$own/cgroup.subtree_control"); "$@";'
        ' [ "$before" = "$(cat "$own/cgroup.subtree_control")" ]; [ "$own" = /sys/fs/cgroup$(sed -n s/^0:://p /proc/self/cgroup) ];'
        ' [ -z "$(find "$own" -mindepth 1 -type d)" ] && echo "as it was"'
    )  # fmt: skip
    done, _ = Job(lab, "systemd-run", *_SCOPE, "sh", "-uc", script, "sh").run(folder)
    assert "as it was" in done.text, done


@pytest.mark.parametrize(
    ("words", "user", "reason"),
    [
        (("systemd-run", "--scope", "--quiet", "--collect"), None, "managed by systemd and not delegated"),
        (("systemd-run", "--user", "--scope", "--quiet", "--collect"), "tester", "systemd-run --user --scope -p Delegate=yes"),
    ],
)  # fmt: skip
def test_a_cgroup_that_was_not_delegated_is_refused(lab: Lab, folder: str, words: tuple[str, ...], user: str | None, reason: str) -> None:  # fmt: skip
    done, outcome = Job(lab, *words, user=user).run(folder)
    assert reason in done.text
    assert outcome.verdict == "unverified"


def test_a_threaded_cgroup_is_refused(lab: Lab, folder: str) -> None:
    script = 'own=/sys/fs/cgroup$(sed -n s/^0:://p /proc/self/cgroup); mkdir "$own/t"; echo threaded >"$own/t/cgroup.type"; "$@" --cgroup="$own/t"; rmdir "$own/t"'  # fmt: skip
    done, outcome = Job(lab, "systemd-run", *_SCOPE, "sh", "-uc", script, "sh").run(folder)
    assert "threaded cgroup" in done.text
    assert outcome.verdict != "pass"


def test_a_missing_controller_is_named_with_its_level(lab: Lab, folder: str) -> None:
    script = 'own=/sys/fs/cgroup$(sed -n s/^0:://p /proc/self/cgroup); mkdir "$own/bare"; "$@" --cgroup="$own/bare"; rmdir "$own/bare"'  # fmt: skip
    done, outcome = Job(lab, "systemd-run", *_SCOPE, "sh", "-uc", script, "sh").run(folder)
    assert "memory" in done.text
    assert "missing at the level" in done.text
    assert outcome.verdict != "pass"


def test_a_killed_tool_leaves_no_process_and_the_next_run_no_cgroup(lab: Lab, folder: str) -> None:
    script = (
        '"$@" & pid=$!; own=/sys/fs/cgroup$(sed -n s/^0:://p /proc/self/cgroup); own=${own%/cgpf-job};'
        ' until find "$own" -name "*plain.service" | grep -q .; do sleep 0.1; done; kill -KILL $pid; wait $pid;'
        ' for n in $(seq 50); do [ -z "$(find "$own" -path "*cgpf*.slice*" -name cgroup.procs -exec cat {} +)" ] && break; sleep 0.1; done;'
        ' echo "left: $(find "$own" -path "*cgpf*.slice*" -name cgroup.procs -exec cat {} + | wc -l)"; exec "$@"'
    )  # fmt: skip
    done, outcome = Job(lab, "systemd-run", *_SCOPE, "sh", "-uc", script, "sh").run(folder)
    assert "left: 0" in done.text
    assert outcome.report, done
