"""Runs inside a unit under test and pushes against one of its limits; prints what the kernel said as JSON.

Standard library only and no import of this package: it is started as a plain script with `python -I -S`.
Call: payload.py KIND CGROUP_FOLDER AMOUNT DEADLINE_SECONDS. KIND is cpu, tasks, high or max; AMOUNT is the
number of busy processes, of threads, or of bytes.
"""

import json
import os
import sys
import time


def read(folder, name):
    """Flat keyed values of a cgroup file; empty when it is not there."""
    try:
        with open(os.path.join(folder, name)) as file:
            return {key: int(value) for key, _, value in (line.partition(" ") for line in file) if value.strip().isdigit()}
    except OSError:
        return {}


def say(**values):
    """One JSON line, at once."""
    sys.stdout.write(json.dumps(values) + "\n")
    sys.stdout.flush()


def stamped_stat(folder):
    """cpu.stat with the time before and after it was read: being throttled in between must not matter."""
    before = time.monotonic()
    stat = read(folder, "cpu.stat")
    return before, stat, time.monotonic()


def spin():
    """Burns CPU until killed; a parent that is gone ends it, too."""
    parent = os.getppid()
    while os.getppid() == parent:
        for _ in range(20000):
            pass
    os._exit(0)


def burn(folder, workers, deadline):
    """CPU beyond the quota: until three periods were throttled, or the deadline."""
    try:
        with open(os.path.join(folder, "cpu.max")) as file:
            period = int(file.read().split()[1]) / 1e6
    except (OSError, IndexError, ValueError):
        period = 0.1
    start_before, start, start_after = stamped_stat(folder)
    children = []
    for _ in range(workers):
        pid = os.fork()
        if pid == 0:
            spin()
        children.append(pid)
    while True:
        time.sleep(min(period, 0.05))
        end_before, end, end_after = stamped_stat(folder)
        throttled = end.get("nr_throttled", 0) - start.get("nr_throttled", 0)
        if throttled >= 3 and end_before - start_after >= 3 * period or end_before - start_after > deadline:
            break
    for pid in children:
        os.kill(pid, 9)
        os.waitpid(pid, 0)
    delta = {key: end.get(key, 0) - start.get(key, 0) for key in end}
    say(shortest=end_before - start_after, longest=end_after - start_before, stat=delta, workers=workers)


def crowd(folder, count, deadline):
    """More threads than the limit allows: until one is refused."""
    import _thread

    _thread.stack_size(64 << 10)
    gate = _thread.allocate_lock()
    gate.acquire()
    until = time.monotonic() + deadline
    started, refused = 0, False
    while started < count and time.monotonic() < until:
        try:
            _thread.start_new_thread(gate.acquire, ())
        except RuntimeError:
            refused = True
            break
        started += 1
    values = {}
    for name in ("pids.current", "pids.max"):
        try:
            with open(os.path.join(folder, name)) as file:
                values[name] = file.read().strip()
        except OSError:
            values[name] = None
    say(started=started, refused=refused, **values)
    os._exit(0)


def eat(folder, amount, deadline, stop_at_high):
    """Memory beyond the limit, some megabytes at a time; the kernel itself writes each page (MAP_POPULATE)."""
    import mmap

    step = 4 << 20
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | getattr(mmap, "MAP_POPULATE", 0x8000)
    until = time.monotonic() + deadline
    high = read(folder, "memory.events.local").get("high", 0)
    pieces, total = [], 0
    say(eating=amount)
    while total < amount and time.monotonic() < until:
        piece = mmap.mmap(-1, step, flags=flags)
        piece[0] = 1
        pieces.append(piece)
        total += step
        if stop_at_high and read(folder, "memory.events.local").get("high", 0) > high:
            break
    say(eaten=total, finished=total >= amount, current=number(folder, "memory.current"))


def number(folder, name):
    """The number in a file of one number, None when there is none."""
    try:
        with open(os.path.join(folder, name)) as file:
            return int(file.read())
    except (OSError, ValueError):
        return None


def main():
    """Dispatches on the first argument."""
    kind, folder, amount, deadline = sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4])
    if kind == "cpu":
        burn(folder, amount, deadline)
    elif kind == "tasks":
        crowd(folder, amount, deadline)
    else:
        eat(folder, amount, deadline, kind == "high")


if __name__ == "__main__":
    main()
