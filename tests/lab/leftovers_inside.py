"""Runs in the guest, as root: prints everything of this tool that is still there, a line each.

    python3 leftovers_inside.py [clean]

Units, unit files, cgroups, processes, folders. With `clean` it ends and removes all of them first.
"""

import contextlib
import glob
import os
import signal
import subprocess
import sys
import time

CGROUPS = "/sys/fs/cgroup"
UNITS = ("cgpf*", "cgroup-preflight-guard-*")
_FOLDERS = ("/run/systemd/*", "/run/user/*/systemd/*", "/etc/systemd/*", "/tmp", "/var/tmp")
_NAMES = ("cgpf*", ".cgpf*", "cgroup-preflight*")
FILES = ("/run/cgpf*", "/run/user/*/cgpf*", *(f"{folder}/{name}" for folder in _FOLDERS for name in _NAMES))
#: The sockets of ssh are the caller's, and shared with his next command.
KEPT = "/tmp/cgpf-ssh-"
_INPUTS = ("/run/preflight/in/fixtures/", "/run/preflight/in/shop/dist/", "/var/tmp/lab/")
WORDS = (*_INPUTS, "/payload.sh", "_SYSTEMD_INVOCATION_ID=")
SECONDS = 20.0


def managers():
    """The system's manager (None) and those of users, by their numbers."""
    runs = [folder for folder in glob.glob("/run/user/*") if os.path.exists(f"{folder}/systemd/private")]
    return [None, *(int(os.path.basename(folder)) for folder in runs)]


def systemctl(uid, *words):
    env = {"PATH": "/usr/bin:/bin", **({"XDG_RUNTIME_DIR": f"/run/user/{uid}"} if uid else {})}
    call = ["systemctl", *(["--user"] if uid else []), *words]
    done = subprocess.run(call, capture_output=True, text=True, env=env, user=uid, timeout=60, check=False)
    return (done.stdout + done.stderr).splitlines()


def units():
    words = ("list-units", "--all", "--plain", "--no-legend", "--full", *UNITS)
    return [line for uid in managers() for line in systemctl(uid, *words)]


def files():
    return [path for pattern in FILES for path in glob.glob(pattern) if not path.startswith(KEPT)]


def cgroups():
    return [f"{folder}/{name}" for folder, names, _ in os.walk(CGROUPS) for name in names if name.startswith("cgpf")]


def processes():
    found = []
    for pid in (name for name in os.listdir("/proc") if name.isdigit() and int(name) != os.getpid()):
        with contextlib.suppress(OSError), open(f"/proc/{pid}/cmdline", "rb") as file:
            words = file.read().decode(errors="replace").replace("\0", " ")
            if any(word in words for word in WORDS):
                found.append((int(pid), words))
    return found


def left():
    kinds = {"unit": units(), "file": files(), "cgroup": cgroups(),
             "process": [f"{pid} {words}" for pid, words in processes()]}  # fmt: skip
    return [f"{kind} {item}" for kind, items in kinds.items() for item in items]


def kill():
    """Also what is frozen, and what is in a cgroup that systemd does not know."""
    for folder in cgroups():
        with contextlib.suppress(OSError), open(f"{folder}/cgroup.kill", "w") as file:
            file.write("1")
    for pid, _ in processes():
        with contextlib.suppress(OSError):
            os.kill(pid, signal.SIGKILL)


def remove():
    for path in files():
        subprocess.run(["rm", "-rf", "--one-file-system", path], check=False)
    # What is below comes first.
    for folder in sorted(cgroups(), key=len, reverse=True):
        for inner in sorted((top for top, _, _ in os.walk(folder)), key=len, reverse=True):
            with contextlib.suppress(OSError):
                os.rmdir(inner)


def clean():
    with open("/proc/mounts") as file:
        for path in [line.split()[1] for line in file if f" {CGROUPS}/cgpf" in line]:
            subprocess.run(["umount", "--lazy", path], check=False, capture_output=True)
    deadline = time.monotonic() + SECONDS
    while left() and time.monotonic() < deadline:
        kill()
        for uid in managers():
            systemctl(uid, "stop", "--no-block", *UNITS)
        kill()
        remove()
        for uid in managers():
            systemctl(uid, "daemon-reload")
            systemctl(uid, "reset-failed", *UNITS)
        time.sleep(0.2)


if __name__ == "__main__":
    if sys.argv[1:] == ["clean"]:
        clean()
    print(*left(), sep="\n")
