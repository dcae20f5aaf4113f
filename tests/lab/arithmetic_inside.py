"""Runs in the guest: puts unit files in place, starts the slices, prints what systemd and the kernel have as JSON.

    python3 arithmetic_inside.py WAY INPUT.json

INPUT has `files` (path below /run/systemd/system to text), `units` and `attributes`. WAY `file`: the files are read as they
are. No process is started: a slice has a cgroup with all its files without one.
"""

import json
import os
import subprocess
import sys

UNITS = "/run/systemd/system"
ROOT = "/sys/fs/cgroup"
GROUP = 100


def call(*words, timeout=300.0):
    done = subprocess.run(words, capture_output=True, text=True, timeout=timeout, check=False)
    if done.returncode:
        sys.stderr.write(f"{words[:3]}: {done.stderr[-2000:]}\n")
    return done.stdout


def read(unit, attributes):
    found = {}
    for name in attributes:
        try:
            with open(f"{ROOT}/{unit}/{name}") as file:
                found[name] = file.read().strip()
        except OSError as error:
            found[name] = f"!{error.strerror}"
    return found


def from_files(work):
    """Group by group, because each start looks at every loaded slice next to it."""
    seen = {}
    for at in range(0, len(work["units"]), GROUP):
        units = work["units"][at : at + GROUP]
        files = {path: text for path, text in work["files"].items() if path.partition(".d/")[0] in units}
        for path, text in files.items():
            os.makedirs(os.path.dirname(f"{UNITS}/{path}"), exist_ok=True)
            with open(f"{UNITS}/{path}", "w", encoding="utf-8") as file:
                file.write(text)
        call("systemctl", "daemon-reload")
        call("systemctl", "start", "--", *units)
        seen |= {unit: read(unit, work["attributes"]) for unit in units}
        call("systemctl", "stop", "--", *units)
        for path in files:
            os.unlink(f"{UNITS}/{path}")
            if "/" in path:
                os.rmdir(os.path.dirname(f"{UNITS}/{path}"))
    call("systemctl", "daemon-reload")
    return seen


def numbers():
    from cgroup_preflight.checks.numbers import numbers_of
    from cgroup_preflight.host.command import LiveRunner
    from cgroup_preflight.host.fs import LiveFs
    from cgroup_preflight.host.gather import gather

    found = numbers_of(gather(LiveFs(), LiveRunner()))
    return {"page_size": found.page_size, "memory_bytes": found.memory_bytes, "tasks_max": found.tasks_max}


#: `run`, transient units whose settings come from a run-time drop-in, has its place here.
WAYS = {"file": from_files}

if __name__ == "__main__":
    with open(sys.argv[2], encoding="utf-8") as file:
        work = json.load(file)
    version = call("systemctl", "--version").split()[1]
    json.dump({"seen": WAYS[sys.argv[1]](work), "numbers": numbers(), "systemd": int(version), "kernel": os.uname().release,
               "cpus": os.cpu_count()}, sys.stdout)  # fmt: skip
