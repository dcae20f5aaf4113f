"""Runs in the guest, as root: what the kernel does with memory settings that systemd has written; prints rows as JSON.

The scenarios are those of tools/testing/selftests/cgroup/test_memcontrol.c, with its sizes and its bars, and with systemd's
properties in place of writes to files. Each row is [scenario, what was seen, whether it is as it must be].
"""

import json
import os
import subprocess
import time
from pathlib import Path

MIB = 1 << 20
ROOT = Path("/sys/fs/cgroup")
FOLDER = Path("/var/tmp/labmem")
UNITS = Path("/run/systemd/system")
ANON = "x = b'x' * ({} << 20)"
NO_SWAP = "MemorySwapMax=0"


def call(*words):
    return subprocess.run(words, check=False, capture_output=True, text=True, stdin=subprocess.DEVNULL)


def start(unit, slice_, settings, *command):
    words = [word for setting in settings for word in ("-p", setting)]
    done = call(
        "systemd-run", "-q", f"--unit={unit}", f"--slice={slice_}", *words, "-p", "RemainAfterExit=no", *command
    )
    assert done.returncode == 0, done


def result(unit, seconds=60):
    """How a unit ended; empty where it still runs."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        state = call("systemctl", "show", "-P", "ActiveState", unit).stdout.strip()
        if state in ("inactive", "failed"):
            return call("systemctl", "show", "-P", "Result", unit).stdout.strip()
        time.sleep(0.1)
    return ""


def number(cgroup, name):
    return int((ROOT / cgroup / name).read_text())


def events(cgroup, name="memory.events"):
    pairs = (line.split() for line in (ROOT / cgroup / name).read_text().splitlines())
    return {key: int(value) for key, value in pairs}


def mib(count):
    return round(count / MIB, 1)


def close(seen, wanted, percent):
    """As values_close() of the selftests has it: within so many percent of the sum of both."""
    return abs(seen - wanted) <= (seen + wanted) * percent / 100


def drop_caches():
    os.sync()
    Path("/proc/sys/vm/drop_caches").write_text("3")


def reading(*files):
    return (
        "sh",
        "-c",
        f"cat {' '.join(str(FOLDER / file) for file in files)} > /dev/null; echo done > {FOLDER}/$0; exec sleep 300",
    )


def wait_for(name, seconds=120):
    end = time.monotonic() + seconds
    while not (FOLDER / name).exists() and time.monotonic() < end:
        time.sleep(0.05)
    (FOLDER / name).unlink()


def protection(kind):
    """A: max 200M, protected 50M. Below, B: 50M, with C (75M), D (25M), E (none), each with 50M of page cache."""
    top, inner = f"lab{kind.lower()}", f"lab{kind.lower()}-b"
    (UNITS / f"{top}.slice").write_text(f"[Slice]\n{kind}=50M\nMemoryMax=200M\n{NO_SWAP}\n")
    (UNITS / f"{inner}.slice").write_text(f"[Slice]\n{kind}=50M\n")
    call("systemctl", "daemon-reload")
    drop_caches()
    names = {"c": "75M", "d": "25M", "e": "0"}
    for name, amount in names.items():
        start(f"{top}_{name}", f"{inner}.slice", [f"{kind}={amount}", NO_SWAP], *reading(name), f"read-{name}")
        wait_for(f"read-{name}")
    place = f"{top}.slice/{inner}.slice"
    outcomes = []
    for index, size in enumerate((145, 163 if kind == "MemoryLow" else 167)):
        start(f"{top}_g{index}", f"{top}.slice", [NO_SWAP], "python3", "-I", "-S", "-c", ANON.format(size))
        outcomes.append(result(f"{top}_g{index}") or "still runs")
        if not index:
            used = [number(f"{place}/{top}_{name}.service", "memory.current") for name in names]
            whole = number(place, "memory.current")
    low = {name: events(f"{place}/{top}_{name}.service").get("low", 0) for name in names}
    for name in names:
        call("systemctl", "stop", f"{top}_{name}")
    call("systemctl", "stop", f"{inner}.slice", f"{top}.slice")
    near = close(whole, 50 * MIB, 3) and close(used[0], 29 * MIB, 10) and close(used[1], 21 * MIB, 10)
    second = outcomes[1] == ("oom-kill" if kind == "MemoryMin" else "success")
    seen = f"B {mib(whole)}M, C {mib(used[0])}M, D {mib(used[1])}M, E {mib(used[2])}M; pressure: {outcomes[0]}, then {outcomes[1]}"
    if kind == "MemoryLow":
        seen += f"; events low C {low['c']}, D {low['d']}, E {low['e']}"
        second = second and low["c"] > 0 and low["d"] > 0
    yield (
        f"{kind}: B 50M, C 29M, D 21M, E 0",
        seen,
        near and used[2] < 2 * MIB and outcomes[0] == "success" and second,
    )


def cached(kind):
    """50M of page cache under a limit of 30M is taken back, and nothing is killed."""
    drop_caches()
    unit = f"labcache{kind.lower()}"
    start(unit, "system.slice", [f"{kind}=30M", NO_SWAP], *reading("c"), "read-both")
    wait_for("read-both")
    place = f"system.slice/{unit}.service"
    used, seen = number(place, "memory.current"), events(place)
    call("systemctl", "stop", unit)
    key = kind.removeprefix("Memory").lower()
    yield (f"{kind}=30M, 50M of page cache", f"current {mib(used)}M, events {key} {seen[key]}, oom_kill {seen['oom_kill']}",
           (29 if kind == "MemoryHigh" else 1) * MIB <= used <= (31 if kind == "MemoryHigh" else 30) * MIB and seen[key] > 0 and not seen["oom_kill"])  # fmt: skip


def slowed():
    """Anonymous memory beyond memory.high: the program goes on slowly and is not killed."""
    start("labhigh", "system.slice", ["MemoryHigh=30M", NO_SWAP], "python3", "-I", "-S", "-c", ANON.format(40))
    time.sleep(4)
    place = "system.slice/labhigh.service"
    seen = events(place) if (ROOT / place).exists() else {}
    call("systemctl", "stop", "labhigh")
    high = seen.get("high", 0)
    yield (
        "MemoryHigh=30M, 40M anonymous",
        f"events high {high}, oom_kill {seen.get('oom_kill')}",
        high > 0 and not seen["oom_kill"],
    )


def killed():
    start("labmax", "system.slice", ["MemoryMax=30M", NO_SWAP], "python3", "-I", "-S", "-c", ANON.format(100))
    how = result("labmax")
    yield "MemoryMax=30M, 100M anonymous", f"result {how}", how == "oom-kill"


#: Two that sleep, one of them with this score, and one that uses too much.
_GROUP = (
    "sleep 300 & sh -c 'echo {} > /proc/self/oom_score_adj; exec sleep 300' & python3 -I -S -c \"{}\"; exec sleep 300"
)


def policies():
    """What the kernel and systemd make of OOMPolicy together."""
    for policy, alive in (("kill", 0), ("continue", 3)):
        unit = f"labgroup{policy}"
        code = _GROUP.format(0, ANON.format(100))
        start(unit, "system.slice", ["MemoryMax=50M", NO_SWAP, f"OOMPolicy={policy}"], "sh", "-c", code)
        place, end = ROOT / f"system.slice/{unit}.service", time.monotonic() + 60
        while time.monotonic() < end and place.exists() and not events(place)["oom_kill"]:
            time.sleep(0.2)
        time.sleep(1)
        left = len((place / "cgroup.procs").read_text().split()) if place.exists() else 0
        call("systemctl", "stop", unit)
        yield f"OOMPolicy={policy}: {alive} of 4 processes stay", f"alive {left}", left == alive


def grouped():
    """memory.oom.group by itself: all are killed but those that may not be."""
    for score, alive in ((0, 0), (-1000, 1)):
        place = ROOT / "labgroup"
        place.mkdir()
        for name, text in (("memory.max", "50M"), ("memory.swap.max", "0"), ("memory.oom.group", "1")):
            if (place / name).exists():
                (place / name).write_text(text)
        enter = f"echo $$ > {place}/cgroup.procs; "
        process = subprocess.Popen(
            ["sh", "-c", enter + _GROUP.format(score, ANON.format(100))], stderr=subprocess.DEVNULL
        )
        process.wait(timeout=60)
        time.sleep(1)
        seen, left = events(place), len((place / "cgroup.procs").read_text().split())
        (place / "cgroup.kill").write_text("1")
        while events(place, "cgroup.events")["populated"]:
            time.sleep(0.05)
        place.rmdir()
        name = "memory.oom.group" + (", one process with score -1000" if score else "")
        yield (f"{name}: {alive} of 4 processes stay", (f"alive {left}, oom_kill {seen['oom_kill']},"
               f" oom_group_kill {seen.get('oom_group_kill', '(none)')}"), left == alive and seen["oom_kill"] >= 4 - alive)  # fmt: skip


def swapped():
    file = FOLDER / "swap"
    call("dd", "if=/dev/zero", f"of={file}", "bs=1M", "count=96", "status=none")
    file.chmod(0o600)
    call("mkswap", str(file))
    assert call("swapon", str(file)).returncode == 0
    try:
        limits = ["MemoryMax=30M", "MemorySwapMax=30M"]
        # With what the interpreter has: 50M.
        code = f"{ANON.format(47)}; open('{FOLDER}/swapped', 'w').close(); import time; time.sleep(300)"
        start("labswap", "system.slice", limits, "python3", "-I", "-S", "-c", code)
        wait_for("swapped")
        place = "system.slice/labswap.service"
        used, swap = number(place, "memory.current"), number(place, "memory.swap.current")
        call("systemctl", "stop", "labswap")
        yield ("MemoryMax=30M, MemorySwapMax=30M, 50M anonymous", f"current {mib(used)}M, swap {mib(swap)}M",
               close(used, 30 * MIB, 3) and close(used + swap, 50 * MIB, 3))  # fmt: skip
        start("labswap2", "system.slice", limits, "python3", "-I", "-S", "-c", ANON.format(100))
        how = result("labswap2")
        yield "MemoryMax=30M, MemorySwapMax=30M, 100M anonymous", f"result {how}", how == "oom-kill"
    finally:
        call("swapoff", str(file))


def main():
    FOLDER.mkdir(exist_ok=True)
    for name in "cde":
        call("dd", "if=/dev/zero", f"of={FOLDER}/{name}", "bs=1M", "count=50", "status=none")
    try:
        for scenario in (
            protection("MemoryMin"), protection("MemoryLow"), cached("MemoryHigh"), cached("MemoryMax"), slowed(), killed(),
            policies(), grouped(), swapped(),
        ):  # fmt: skip
            for row in scenario:
                print(json.dumps(row), flush=True)
    finally:
        call("rm", "-rf", str(FOLDER), *map(str, UNITS.glob("labmemory*.slice")))
        call("systemctl", "daemon-reload")
        call("systemctl", "reset-failed")


if __name__ == "__main__":
    main()
