"""Waits inside a unit and pushes against its limits on request; prints what the kernel said.

Standard library only and no import of this package: it is started as a plain script with `python -I -S`.
Call: payload.py [INPUT OUTPUT], files in place of stdin and stdout. Each line on stdin is `KIND AMOUNT SECONDS CGROUP_FOLDER`; KIND is cpu, load, tasks, high, max, rival, keep, own or drop; AMOUNT
is the number of busy processes, of tasks, or of bytes, or the CPUs of load as a mask; SECONDS is the longest to try. Each line on stdout is a Python
literal, because importing json takes as long as all the rest. A line with `over` ends the answer.
"""

import os
import sys
import time

#: The most tasks in one process of the crowd.
GROUP = 32
#: How often a load looks whether it has to end, milliseconds.
LOOK_MS = 200


def text(folder, name):
    """What a cgroup file has; empty without the file.

    Without `open`: each page of Python that a child touches first costs a page fault, and its layers are some fifty.
    """
    try:
        handle = os.open(folder + "/" + name, os.O_RDONLY)
    except OSError:
        return ""
    try:
        return os.read(handle, 8192).decode()
    finally:
        os.close(handle)


def read(folder, name):
    """Flat keyed values of a cgroup file; empty without the file."""
    pairs = (line.split(" ") for line in text(folder, name).split("\n"))
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2 and pair[1].isdigit()}


def say(**values):
    """One line, at once, whole: a child that is killed must not leave half of one."""
    os.write(1, (repr(values) + "\n").encode())


def stamped_stat(folder):
    """cpu.stat with the time before and after it was read: throttling in between must not matter."""
    before = time.monotonic()
    stat = read(folder, "cpu.stat")
    return before, stat, time.monotonic()


def spin(until=float("inf")):
    """Uses CPU until it is killed, or its parent ends, or the time comes."""
    parent = os.getppid()
    while os.getppid() == parent and time.monotonic() < until:
        for _ in range(20000):
            pass
    os._exit(0)


def quota_of(folder):
    """CPUs and period (seconds) of cpu.max; any number of CPUs where there is no quota."""
    try:
        quota, period = text(folder, "cpu.max").split()
        return int(quota) / int(period) if quota != "max" else float("inf"), int(period) / 1e6
    except ValueError:
        return float("inf"), 0.1


def burn(folder, workers, deadline):
    """CPU beyond the quota: until three periods were throttled, or the deadline.

    A kernel that enforces the quota makes the group pay back what it used beyond it in the next periods. A machine that
    stood still for a while (an emulated CPU counts that as use) is measured until the group has paid.
    """
    quota, period = quota_of(folder)
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
        shortest, longest = end_before - start_after, end_after - start_before
        throttled = end.get("nr_throttled", 0) - start.get("nr_throttled", 0)
        used = (end.get("usage_usec", 0) - start.get("usage_usec", 0)) / 1e6
        within = used <= quota * (longest + period)
        if (throttled >= 3 and shortest >= 3 * period and within) or shortest > deadline:
            break
    for pid in children:
        os.kill(pid, 9)
        os.waitpid(pid, 0)
    delta = {key: end.get(key, 0) - start.get(key, 0) for key in end}
    say(shortest=shortest, longest=longest, stat=delta, workers=workers)


def load(mask, deadline):
    """Uses all the CPU time that the cgroup receives on each CPU of a mask (a bit for each CPU), until the deadline.

    Ends early when one of its processes does, and when nobody can write to stdin any more: this tool was killed, and
    nobody sets the limits of the slices again that are lifted meanwhile.
    """
    import select

    children, until = [], time.monotonic() + deadline
    for cpu in range(mask.bit_length()):
        if not mask >> cpu & 1:
            continue
        pid = os.fork()
        if pid == 0:
            try:
                os.sched_setaffinity(0, {cpu})
            except OSError:
                # Elsewhere it would compete with others than the model says.
                os._exit(1)
            spin(until)
        children.append(pid)
    count, ended, gone = len(children), 0, select.poll()
    # Without events, only the end of all writers is reported (poll(2), POLLHUP).
    gone.register(0, 0)
    while not ended and not gone.poll(LOOK_MS):
        ended = os.waitpid(-1, os.WNOHANG)[0]
    for pid in children:
        if pid != ended:
            os.kill(pid, 9)
            os.waitpid(pid, 0)
    say(ended=count)


def crowd(folder, count, deadline):
    """More tasks than the limit allows: until one is refused.

    In processes of some threads each: starting a thread takes longer the more threads its process has, most of all
    under user-mode Linux, which goes through all their stacks. The last ones are threads of this process.
    """
    until = time.monotonic() + deadline
    stay, leave = os.pipe()
    groups = {}
    started, refused, killed = 0, False, False
    least = min(count, room(folder, count))
    while least - started > GROUP and not (refused or killed) and time.monotonic() < until:
        answer, tell = os.pipe()
        try:
            pid = os.fork()
        except BlockingIOError:
            refused = True
            break
        if pid == 0:
            os.close(leave)
            os.write(tell, b"%d %d" % threads(GROUP - 1, until))
            os.read(stay, 1)
            os._exit(0)
        os.close(tell)
        more, ended = os.read(answer, 64).split() or (0, 0)
        os.close(answer)
        groups[pid] = 1 + int(more)
        started += groups[pid]
        refused = bool(int(ended))
        # The kernel kills a group for memory: the next ones would only take its place.
        killed = forget_ended(groups)
    more = 0
    if not (refused or killed):
        more, refused = threads(count - started, until)
        killed = forget_ended(groups)
    values = tasks_files(folder)
    os.close(leave)
    for pid in groups:
        os.waitpid(pid, 0)
    say(started=started + more, alive=sum(groups.values()) + more, refused=bool(refused), killed=killed, **values)


def room(folder, count):
    """How many more tasks the limit lets start; `count` where there is none."""
    most, now = text(folder, "pids.max").strip(), text(folder, "pids.current").strip()
    return int(most) - int(now) if most.isdigit() and now.isdigit() else count


def forget_ended(groups):
    """Removes the children that have ended, which none does by itself; whether there was one."""
    before = len(groups)
    for pid in list(groups):
        if os.waitpid(pid, os.WNOHANG)[0]:
            del groups[pid]
    return len(groups) < before


def threads(count, until):
    """Starts threads that stay as long as this process: how many, and whether one was refused."""
    import _thread

    _thread.stack_size(64 << 10)
    gate = _thread.allocate_lock()
    gate.acquire()
    for started in range(count):
        if time.monotonic() > until:
            return started, False
        try:
            _thread.start_new_thread(gate.acquire, ())
        except RuntimeError:
            return started, True
    return max(count, 0), False


def tasks_files(folder):
    """How many tasks there are, and how many there may be, in the kernel's words; None where there is no file."""
    return {name: text(folder, name).strip() or None for name in ("pids.current", "pids.max")}


def eat(folder, amount, deadline, stop_at_high):
    """Memory beyond the limit, some megabytes at a time.

    In a file in memory, which is charged as any other memory: the kernel allocates it without a page table entry for
    each page, and frees it with the process.
    """
    step = 4 << 20
    store = os.memfd_create("eaten")
    until = time.monotonic() + deadline
    high = read(folder, "memory.events.local").get("high", 0)
    total = 0
    say(eating=amount)
    while total < amount and time.monotonic() < until:
        os.posix_fallocate(store, total, step)
        total += step
        if stop_at_high and read(folder, "memory.events.local").get("high", 0) > high:
            break
    say(eaten=total, finished=total >= amount, current=number(folder, "memory.current"))


def rival(amount, deadline):
    """Memory as programs have it, with a page table, so that the kernel compares this process with others when it kills."""
    step, until, kept = 1 << 20, time.monotonic() + deadline, []
    while len(kept) * step < amount and time.monotonic() < until:
        kept.append(b"x" * step)
    say(eaten=len(kept) * step)


def keep(kind, amount):
    """Starts a child that has memory, which it keeps until `drop`, or until this process ends: its pid and a pipe, or None.

    With `own` as programs have it, as `rival`; else in a file in memory, as `eat`, which takes much less time.
    """
    stay, leave = os.pipe()
    answer, tell = os.pipe()
    try:
        pid = os.fork()
    except BlockingIOError:
        pid = None
    if pid == 0:
        try:
            os.close(leave)
            if kind == "own":
                kept = b"x" * amount
            else:
                kept = os.memfd_create("kept")
                os.posix_fallocate(kept, 0, amount)
            os.write(tell, b"%d" % (amount if kept else 0))
            os.read(stay, 1)
        finally:
            os._exit(0)
    os.close(stay)
    os.close(tell)
    say(kept=int(os.read(answer, 32) or 0))
    os.close(answer)
    if pid is None:
        os.close(leave)
        return None
    return pid, leave


def drop(kept):
    """Ends what `keep` started."""
    pid, leave = kept
    os.kill(pid, 9)
    os.waitpid(pid, 0)
    os.close(leave)


def number(folder, name):
    """The number in a file of one number, None when there is none."""
    value = text(folder, name).strip()
    return int(value) if value.isdigit() else None


def push(kind, amount, folder, deadline):
    """Dispatches on the kind."""
    if kind == "cpu":
        burn(folder, amount, deadline)
    elif kind == "load":
        load(amount, deadline)
    elif kind == "tasks":
        crowd(folder, amount, deadline)
    elif kind == "rival":
        rival(amount, deadline)
    else:
        eat(folder, amount, deadline, kind == "high")


def in_child(kind, amount, folder, deadline):
    """Pushes in a child, which the kernel kills first. This process stays, and keeps the cgroup and its counters."""
    try:
        pid = os.fork()
    except BlockingIOError:
        if kind == "tasks":
            say(started=0, refused=True, **tasks_files(folder))
        return
    if pid == 0:
        status = 1
        try:
            if kind != "rival":
                score = os.open("/proc/self/oom_score_adj", os.O_WRONLY)
                os.write(score, b"1000")
                os.close(score)
            push(kind, amount, folder, deadline)
            status = 0
        finally:
            os._exit(status)
    os.waitpid(pid, 0)


def copy_at_fork():
    """Makes fork copy the page tables of mapped files, too: guest/inside/page_tables.py says how and why."""
    memory = os.open("/proc/self/mem", os.O_RDWR)
    for line in text("/proc/self", "maps").split("\n"):
        words = line.split()
        if len(words) == 6 and words[1] in ("r-xp", "r--p") and words[5].startswith("/"):
            at = int(words[0].split("-")[0], 16)
            try:
                os.pwrite(memory, os.pread(memory, 1, at), at)
            except OSError:
                break
    os.close(memory)


def main():
    """Answers each line of stdin until its end."""
    for number, path in enumerate(sys.argv[1:3]):
        os.dup2(os.open(path, (os.O_RDONLY, os.O_WRONLY | os.O_CREAT | os.O_APPEND)[number], 0o600), number)
    if sys.argv[1:]:
        # In a guest; each push is a fork.
        copy_at_fork()
    rest, kept = b"", None
    say(up=os.getpid())
    while piece := os.read(0, 4096):
        *lines, rest = (rest + piece).split(b"\n")
        for line in lines:
            kind, amount, seconds, folder = line.decode().split(" ", 3)
            if kind in ("keep", "own", "drop"):
                if kept:
                    drop(kept)
                kept = keep(kind, int(amount)) if kind != "drop" else None
            else:
                (push if kind in ("cpu", "load") else in_child)(kind, int(amount), folder, float(seconds))
            say(over=kind)
    # Without the interpreter's own end, which takes as long as half of its start.
    os._exit(0)


if __name__ == "__main__":
    main()
