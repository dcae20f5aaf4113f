"""A job with the engine cgroupfs in some cgroup of a guest: its config, its report, and what it did to the tree."""

import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cgroup_preflight.guest.session import Guest
from cgroup_preflight.guest.spec import CommandResult
from tests.lab.configs import ENVIRONMENT, Outcome, config, service, toml

#: Where the config, its programs and what a job writes are; containers get it as it is.
HOME = "/var/tmp/lab/cgroupfs"
OUT = f"{HOME}/out"
CONFIG = f"{HOME}/cgroup-preflight.toml"
_INSIDE = Path(__file__).with_name("cgroupfs_inside.py")
_NUMBERS = itertools.count(1)

_PLAIN = """#!/bin/sh
read -r first </proc/self/cgroup
echo "first $first"
echo up
exec sleep 300
"""
#: Needs more than its limit before it is ready.
_GREEDY = """#!/usr/bin/python3
block = bytearray(200 << 20)
for at in range(0, len(block), 4096):
    block[at] = 1
print("up", flush=True)
"""
#: Lifts its own limit: the cgroup files are of the same user.
_LIAR = """#!/usr/bin/python3
import time
own = "/sys/fs/cgroup" + open("/proc/self/cgroup").read().strip().rpartition("::")[2]
open(f"{own}/memory.max", "w").write("max")
print("up", flush=True)
time.sleep(300)
"""
#: Says how much memory of its own it has, and how much of that its cgroup was charged; $1: moves there first.
_CHARGED = """#!/usr/bin/python3
import os, sys, time
first = open("/proc/self/cgroup").read().strip().rpartition("::")[2]
own = "/sys/fs/cgroup" + first
block = bytearray(b"x") * (16 << 20)
if sys.argv[1:]:
    own = sys.argv[1]
    open(f"{own}/cgroup.procs", "w").write(str(os.getpid()))
charged = dict(line.split() for line in open(f"{own}/memory.stat"))["anon"]
mine = next(int(line.split()[1]) << 10 for line in open("/proc/self/status") if line.startswith("RssAnon"))
print(f"anon {charged} of {mine} in {first}", flush=True)
print("up", flush=True)
if not sys.argv[1:]:
    time.sleep(300)
"""
PROGRAMS = {"plain": _PLAIN, "greedy": _GREEDY, "liar": _LIAR, "charged": _CHARGED}
_UP = "log:^up"
SERVICES = {
    "plain": service("plain", ready=_UP, slice="api", MemoryMax="64M", CPUQuota="50%", TasksMax="50"),
    "charged": service("charged", ready=_UP, slice="api", MemoryMax="48M"),
    "greedy": service("greedy", ready=_UP, slice="api", MemoryMax="32M"),
    "liar": service("liar", ready=_UP, slice="api", MemoryMax="60M"),
}
SLICES = {"api": {"MemoryMax": "200M", "CPUWeight": 50}}
HONEST = ("plain", "charged")


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """How a job gets into its cgroup: the `words` before its command, as `user`."""

    words: tuple[str, ...] = ()
    user: str | None = None
    home: str = "/root"


_SCOPE = ("--scope", "--quiet", "--collect", "-p", "Delegate=yes")
IN_SCOPE = Place(words=("systemd-run", *_SCOPE))
IN_USERS_SCOPE = Place(words=("systemd-run", "--user", *_SCOPE), user="tester", home="/home/tester")


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """A job that ended: its report, and what `cgroupfs_inside` says of the tree."""

    outcome: Outcome
    tree: Mapping[str, Any]
    done: CommandResult


def put(guest: Guest, *, name: str = "", made: Mapping[str, Any] | None = None, scripts: Mapping[str, str] = PROGRAMS) -> str:  # fmt: skip
    """Writes a config and its programs, where every user can read them; the path of the config."""
    folder = f"{HOME}/{name}".rstrip("/")
    files = {f"{folder}/{script}": text for script, text in scripts.items()}
    files[f"{folder}/cgroup-preflight.toml"] = toml(made or config(SERVICES, SLICES))
    files[f"{HOME}/inside.py"] = _INSIDE.read_text()
    for path, text in files.items():
        guest.write_file(path, text.encode(), mode=0o755)
    script = 'mkdir -p "$1/out"; chmod -R a+rX /var/tmp/lab; chmod 1777 "$1/out"'
    assert guest.run(["sh", "-euc", script, "sh", HOME]).returncode == 0
    return f"{folder}/cgroup-preflight.toml"


def command(number: int, *args: str, made: str = CONFIG, engine: str = "cgroupfs", verb: str = "run") -> list[str]:
    """The command under test; its report is `number`.json. `verb` is smoke, to name services."""
    return ["python3", "-m", "cgroup_preflight", verb, f"--config={made}", f"--engine={engine}",
            f"--format=json={OUT}/{number}.json", "--format=text", *args]  # fmt: skip


def environment(place: Place) -> list[str]:
    """The variables of a job, as words of env(1): containers and other users keep none of the caller's."""
    own = {"HOME": place.home, "PYTHONPYCACHEPREFIX": f"/tmp/pycache{place.home.replace('/', '-')}"}
    if place.user:
        own["XDG_RUNTIME_DIR"] = "/run/user/1000"
    return ["env", *(f"{name}={value}" for name, value in {**ENVIRONMENT, **own}.items())]


def run(
    guest: Guest, place: Place, *args: str, base: str = "", made: str = CONFIG, engine: str = "cgroupfs",
    timeout: float = 300.0,
) -> Seen:  # fmt: skip
    """Runs a job; `base` is the folder of its cgroup, where that is not its own."""
    number = next(_NUMBERS)
    tree = f"{OUT}/{number}.tree"
    around = ["python3", f"{HOME}/inside.py", tree, *(["--base", base] if base else []), "--"]
    argv = [*place.words, *environment(place), *around, *command(number, *args, made=made, engine=engine)]
    done = guest.run(argv, user=place.user, cwd="/", timeout=timeout)
    assert not done.timed_out, done
    found = read_json(guest, tree)
    assert found, done
    report = read_json(guest, f"{OUT}/{number}.json")
    outcome = Outcome(exit_status=found["status"], report=report, text=done.text, stderr=done.stderr.decode())
    return Seen(outcome=outcome, tree=found, done=done)


def read_json(guest: Guest, path: str) -> dict[str, Any]:
    """A JSON file of the guest, which is removed; empty where there is none."""
    text = guest.run(["sh", "-c", 'cat "$1" && rm -f "$1"', "sh", path]).stdout
    found: dict[str, Any] = json.loads(text) if text else {}
    return found


def assert_tree_as_before(seen: Seen, *, runs: int = 1) -> None:
    """Nothing was written outside of the subtree, the rules were kept, and nothing is left."""
    tree = seen.tree
    assert len(tree["runs"]) == runs, (tree, seen.done)
    said = {name: tree[name] for name in ("outside", "changed", "mixed", "processes")}
    assert said == {"outside": [], "changed": {}, "mixed": [], "processes": []}, seen.done


def assert_both_ways(seen: Seen) -> None:
    """Limits that are in force pass with their probes; one that was lifted, and one that is too small, fail."""
    outcome = seen.outcome
    assert outcome.report["host"]["engine"] == "cgroupfs"
    limits = outcome.limits("plain")
    assert limits == {
        "api.slice/memory.max": str(200 << 20), "api.slice/cpu.weight": "50",
        "api.slice/plain.service/memory.max": str(64 << 20), "api.slice/plain.service/cpu.max": "50000 100000",
        "api.slice/plain.service/pids.max": "50",
    }  # fmt: skip
    failed = failures(outcome, SERVICES)
    assert failed == {"plain": set(), "charged": set(), "greedy": {"CGP504"}, "liar": {"CGP501"}}, outcome.text
    probes = {item["message"].partition(":")[0]: item["status"] for item in outcome.findings("CGP511", "plain")}
    assert probes == {"MemoryMax": "pass", "CPUQuota": "pass", "TasksMax": "pass"}, outcome.text
    assert outcome.finding("CGP510", "run")["status"] == "pass"
    assert (outcome.verdict, outcome.exit_status) == ("fail", 1)
    assert_inside_from_the_start(outcome)


def assert_inside_from_the_start(outcome: Outcome) -> None:
    """What a program reads first is that it is in its cgroup, and all of its memory is charged to that."""
    first = [line for line in outcome.service("plain")["log_tail"] if line.startswith("first ")]
    assert first[0].endswith("-api.slice/" + outcome.service("plain")["unit"]), first
    charged, mine = charges(outcome.service("charged")["log_tail"])
    assert mine > 16 << 20
    assert charged > 0.98 * mine, (charged, mine)


def charges(lines: Sequence[str]) -> tuple[int, int]:
    """The bytes that a cgroup was charged, and those that its program has."""
    (line,) = [line for line in lines if line.startswith("anon ")]
    return int(line.split()[1]), int(line.split()[3])


def failures(outcome: Outcome, names: Mapping[str, object] | Sequence[str]) -> dict[str, set[str]]:
    """The codes that failed or stayed unverified, by service."""
    return {
        name: {code for code, status in outcome.statuses(name).items() if status in ("fail", "unverified")}
        for name in names
    }
