"""Kills rollouts at random moments, inside the guest: prints one JSON line for each, and what was left in between.

The tool is forked from this process, which has its modules already: on a slow machine their import takes most of the time.
Call: rollout_kills_inside.py PLACE COUNT SEED NEW_CPU_MAX, as root; PLACE has the config and `state`.
"""

import contextlib
import glob
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence

from cgroup_preflight.cli import rollout as tool

_CGROUP = "/sys/fs/cgroup/lab17.slice/cpu.max"
_UNITS, _RUN = "/etc/systemd/system", "/run/systemd/system"
_TIMER = "cgroup-preflight-rollout"
_OLD = "200000 100000"
_WAYS = ("resume", "timer", "abort")


def main() -> None:
    place, count, seed, new = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
    os.chdir(place)
    chance, bad = random.Random(seed), 0
    clean()
    with open(os.devnull, "w") as null, contextlib.redirect_stdout(null), contextlib.redirect_stderr(null):
        # Imports what a rollout needs, so that each of the others has it already.
        assert tool.main(["plan"]) == 0
    began = time.monotonic()
    assert ended(started("apply", "--yes")) == 0, "a rollout that nobody kills"
    whole = time.monotonic() - began
    print(json.dumps({"whole": round(whole, 1)}), flush=True)
    for number in range(count):
        clean()
        child, after, way = started("apply", "--yes"), chance.uniform(0.0, whole), _WAYS[number % 3]
        time.sleep(after)
        os.kill(child, signal.SIGKILL)
        ended(child)
        found = outcome(way, new) | {"number": number, "after": round(after, 2)}
        bad += not found["good"]
        print(json.dumps(found), flush=True)
    print(json.dumps({"kills": count, "in_between": bad, "seconds": round(time.monotonic() - began)}), flush=True)


def outcome(way: str, new: str) -> dict[str, object]:
    """What the journal and the kernel say after the kill, and after the way back."""
    torn = journal()[-1:] not in (b"\n", b"")
    at, kernel = last(), quota()
    if at not in ("", "promoted", "restored"):
        if way == "timer":
            waited = time.monotonic()
            while not glob.glob("state/*.restored") and time.monotonic() - waited < 40:
                time.sleep(0.2)
            alone = quota()
            status = ended(started("resume"))
        else:
            alone, status = "", ended(started(*(("abort", "--yes") if way == "abort" else ("resume",))))
    else:
        alone, status = "", 0
    end, now = last(), quota()
    wanted = {"promoted": new}.get(end, _OLD)
    run("systemctl", "daemon-reload")
    extra = left(promoted=end == "promoted")
    torn_end = journal()[-1:] not in (b"\n", b"")
    good = (
        now == wanted == quota() and not extra and status in (0, 1) and end in ("", "promoted", "restored")
        and alone in ("", _OLD, wanted)
    )  # fmt: skip
    return {"at": at, "kernel": kernel, "torn_line": torn, "torn_end": torn_end, "way": way, "by_timer_alone": alone,
            "status": status, "end": end, "then": now, "left": extra, "good": good}  # fmt: skip


def started(*words: str) -> int:
    """The tool as a process of its own."""
    child = os.fork()
    if child:
        return child
    status = 4
    try:
        os.setsid()
        null = os.open("/dev/null", os.O_RDWR)
        for number in (0, 1):
            os.dup2(null, number)
        os.dup2(os.open("log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), 2)
        status = tool.main([*words, "--state", "state", "--format", "json"])
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 1
    finally:
        os._exit(status)


def ended(child: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def journal() -> bytes:
    names = sorted(glob.glob("state/*.journal"))
    if not names:
        return b""
    with open(names[-1], "rb") as file:
        return file.read()


def last() -> str:
    whole = journal().rpartition(b"\n")[0].splitlines()
    return str(json.loads(whole[-1])["kind"]) if whole else ""


def quota() -> str:
    with open(_CGROUP) as file:
        return file.read().strip()


def left(*, promoted: bool) -> Sequence[str]:
    """Drop-ins and files of the timer, without the persistent drop-ins of a promotion."""
    folders = (_UNITS, f"{_UNITS}.control", _RUN, f"{_RUN}.control")
    found = [name for folder in folders for name in glob.glob(f"{folder}/lab17.slice.d/*") + glob.glob(f"{folder}/{_TIMER}.*")
             + glob.glob(f"{folder}/timers.target.d/*")]  # fmt: skip
    return [name for name in found if not (promoted and name.startswith(f"{_UNITS}.control/"))]


def clean() -> None:
    run("systemctl", "stop", f"{_TIMER}.timer", f"{_TIMER}.service", "lab17.service", "lab17.slice")
    for path in left(promoted=False):
        os.unlink(path)
    shutil.rmtree("state")
    os.mkdir("state", 0o700)
    run("systemctl", "daemon-reload")
    run("systemctl", "start", "lab17.service")
    assert quota() == _OLD, quota()


def run(*argv: str) -> None:
    subprocess.run(argv, capture_output=True, check=False, timeout=120)


if __name__ == "__main__":
    main()
