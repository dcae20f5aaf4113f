"""Runs a command in a cgroup, inside a guest, and tells what it did to the tree of cgroups; the file needs only Python.

    python3 cgroupfs_inside.py REPORT [--base PATH] -- COMMAND...

REPORT gets JSON: `status` of the command; `outside`, the writes and new folders outside of the base that inotify(7) saw;
`changed`, what of the whole tree is another after the command; `mixed`, cgroups that had processes and enabled
controllers at once, looked at all the time; `runs`, the folders of runs that were seen, so that it is known that one
took place; `processes`, those that are there after the command and were not before.
"""

import ctypes
import json
import os
import select
import struct
import subprocess
import sys
import threading
import time

TOP = "/sys/fs/cgroup"
IN_MODIFY, IN_CREATE, IN_DELETE, IN_Q_OVERFLOW = 0x2, 0x100, 0x200, 0x4000
_EVENT = struct.Struct("iIII")
#: The kernel counts in these, so that they change by themselves; only their limits and switches are compared.
_COUNTS = (".stat", ".events", ".events.local", ".current", ".peak", ".pressure", ".numa_stat", "cgroup.threads")


def folders(top, skip=""):
    """The folder and all below it, without those of `skip`."""
    for folder, names, _ in os.walk(top):
        names[:] = [name for name in names if f"{folder}/{name}" != skip]
        if folder != skip:
            yield folder


def text_of(path):
    """The text, None where it cannot be read."""
    try:
        with open(path) as file:
            return file.read()
    except OSError:
        return None


def tree(own):
    """Each file that somebody can set, by its path; of processes only whether this one is there."""
    found = {}
    for folder in folders(TOP):
        for name in os.listdir(folder):
            path = f"{folder}/{name}"
            if os.path.isdir(path) or name.endswith(_COUNTS):
                continue
            text = text_of(path)
            found[path] = str(own in (text or "").split()) if name == "cgroup.procs" else text
    return found


def processes():
    """The command line of each process by its number and start; kernel threads have none."""
    found = {}
    for pid in (name for name in os.listdir("/proc") if name.isdigit()):
        words, stat = text_of(f"/proc/{pid}/cmdline"), text_of(f"/proc/{pid}/stat")
        if words and stat:
            found[f"{pid} {stat.rpartition(')')[2].split()[19]}"] = words.replace("\0", " ")
    return found


class Writes(threading.Thread):
    """Every write to a file outside of `base`, and every cgroup that is made or removed there."""

    def __init__(self, base):
        super().__init__(daemon=True)
        self.libc = ctypes.CDLL(None, use_errno=True)
        self.handle = self.libc.inotify_init1(os.O_CLOEXEC)
        self.ended = threading.Event()
        self.names, self.seen = {}, []
        for folder in folders(TOP, base):
            number = self.libc.inotify_add_watch(self.handle, folder.encode(), IN_MODIFY | IN_CREATE | IN_DELETE)
            if number < 0:
                raise OSError(ctypes.get_errno(), folder)
            self.names[number] = folder

    def run(self):
        while True:
            last = self.ended.is_set()
            if select.select([self.handle], [], [], 0 if last else 0.1)[0]:
                self.read(os.read(self.handle, 65536))
            elif last:
                return

    def read(self, data):
        at = 0
        while at < len(data):
            number, mask, _, size = _EVENT.unpack_from(data, at)
            at += _EVENT.size
            name = data[at : at + size].rstrip(b"\0").decode()
            at += size
            path = f"{self.names.get(number)}/{name}"
            if mask & IN_Q_OVERFLOW:
                self.seen.append("overflow")
            # The kernel reports its own changes of counters so, too, and these files nobody can write.
            elif not mask & IN_MODIFY or os.stat(path).st_mode & 0o222:
                self.seen.append(f"{path} {mask:#x}")


class Mixed(threading.Thread):
    """Cgroups below `base` that have processes and enabled controllers at once."""

    def __init__(self, base):
        super().__init__(daemon=True)
        self.base, self.ended = base, threading.Event()
        self.found, self.runs = set(), set()

    def run(self):
        while not self.ended.is_set():
            for folder in folders(self.base):
                name = os.path.basename(folder)
                if name.startswith("cgpf") and name.endswith(".slice") and "-" not in name:
                    self.runs.add(name)
                if os.path.exists(f"{folder}/cgroup.type"):
                    enabled, inside = text_of(f"{folder}/cgroup.subtree_control"), text_of(f"{folder}/cgroup.procs")
                    # Still enabled, too: at the end the tool disables them first and then moves the processes back.
                    still = text_of(f"{folder}/cgroup.subtree_control") if inside and inside.strip() else ""
                    if enabled and enabled.strip() and inside and inside.strip() and still == enabled:
                        self.found.add(f"{folder}: {enabled.strip()}: {inside.split()}")
            time.sleep(0.05)


def main():
    report, words = sys.argv[1], sys.argv[2:]
    own = (text_of("/proc/self/cgroup") or "").strip().rpartition("::")[2].rstrip("/")
    base = f"{TOP}{own}"
    if words[0] == "--base":
        base, words = words[1], words[2:]
    others, before = processes(), tree(str(os.getpid()))
    writes, mixed = Writes(base), Mixed(base)
    writes.start()
    mixed.start()
    status = subprocess.run(words[1:], check=False).returncode
    mixed.ended.set()
    mixed.join()
    writes.ended.set()
    writes.join()
    after = tree(str(os.getpid()))
    changed = {path: (before.get(path), after.get(path)) for path in before.keys() | after.keys()
               if before.get(path) != after.get(path)}  # fmt: skip
    new = [words for number, words in processes().items() if number not in others]
    with open(report, "w") as file:
        json.dump({"status": status, "base": base, "outside": writes.seen, "changed": changed, "processes": new,
                   "mixed": sorted(mixed.found), "runs": sorted(mixed.runs)}, file)  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main())
