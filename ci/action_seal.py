"""Checks that nothing which the publishing step imports has changed since it was installed, then starts that step.

`python -I -S -B -c CODE print|publish LIB ACTION [SEALED]`: the runner keeps this code, and the hash that `print` wrote
before any service ran, in the outputs of the installing step. The token comes by stdin, which no other process can read:
the environment of a process is open to every process of its user, as /proc/PID/environ.
"""

import hashlib
import os
import runpy
import sys

_TOKEN = "CGROUP_PREFLIGHT_GITHUB_TOKEN"  # noqa: S105 - a name
#: <linux/prctl.h>. With 0, environ, mem and fd of /proc/PID belong to root, and no ptrace(2) is allowed.
_PR_SET_DUMPABLE = 4


def digest(roots: "list[str]") -> str:
    """A hash of the names and contents of all files below; links are files of their own, wherever they lead."""
    lines = []
    for root in roots:
        for folder, names, files in os.walk(root):
            for path in (os.path.join(folder, name) for name in (*files, *names)):
                if os.path.islink(path):
                    lines.append(f"link {os.readlink(path)} {path}")
                elif os.path.isfile(path):
                    with open(path, "rb") as file:
                        lines.append(f"{hashlib.sha256(file.read()).hexdigest()} {path}")
    return hashlib.sha256("\n".join(sorted(lines)).encode("utf-8", "surrogateescape")).hexdigest()


def hide() -> None:
    """Closes this process to others of its user. Without it the token is no worse off than in the environment."""
    try:
        import ctypes

        ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    except (ImportError, OSError, AttributeError):
        pass


def main() -> None:
    """What the module's text says."""
    mode, lib, action, *sealed = sys.argv[1:]
    roots = [lib, os.path.join(action, "src"), os.path.join(action, "ci")]
    if mode == "print":
        print(digest(roots))
        return
    hide()
    if [digest(roots)] != sealed:
        print(
            "::error title=cgroup-preflight::files of the action changed after they were installed, so nothing is published"
        )
        sys.exit(4)
    # From here on only in the memory of this process: what it began with stays in /proc/PID/environ, what it adds does not.
    os.environ[_TOKEN] = sys.stdin.readline().strip()
    entry = os.path.join(action, "ci", "action_entry.py")
    sys.argv = [entry, mode]
    runpy.run_path(entry, run_name="__main__")


if __name__ == "__main__":
    main()
