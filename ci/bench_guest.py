"""The guest in figures: quick boot against a plain one of the same root, and where the time of a whole run goes."""

import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from cgroup_preflight.guest import image
from cgroup_preflight.guest.recipe import recipe_for
from cgroup_preflight.guest.session import Guest
from cgroup_preflight.guest.spec import BootMode, GuestSpec

EXAMPLE = Path(__file__).resolve().parents[1] / "examples" / "shop"
ROUNDS = 3
#: What makes a full boot a plain one: the distribution's own units and generators, without any of our masks.
PLAIN = (
    "SYSTEMD_UNIT_PATH=/run/systemd/transient:/run/systemd/system:/lib/systemd/system:/usr/local/lib/preflight-quick",
    "SYSTEMD_GENERATOR_PATH=/lib/systemd/system-generators",
    "systemd.wants=preflight-agent.service",
)


def boots() -> None:
    """Quick, full and plain boots in turn; ratios pair by pair."""
    root = image.ensure(recipe_for("debian-12"), image.cache_folder(os.environ), print)
    specs = {
        "quick": GuestSpec(mode=BootMode.QUICK),
        "full": GuestSpec(mode=BootMode.FULL),
        "plain": GuestSpec(mode=BootMode.FULL, kernel_args=PLAIN),
    }
    seconds: dict[str, list[float]] = {name: [] for name in specs}
    for _ in range(ROUNDS):
        for name, spec in specs.items():
            with Guest(spec, root) as guest:
                seconds[name].append(guest.boot_seconds)
    for name in ("quick", "full"):
        ratios = [one / plain for one, plain in zip(seconds[name], seconds["plain"], strict=True)]
        print(
            f"{name:<6} boot {statistics.median(seconds[name]):5.1f} s   plain {statistics.median(seconds['plain']):5.1f} s"
            f"   ratio {statistics.median(ratios):.2f} ({min(ratios):.2f} .. {max(ratios):.2f})"
        )


def run(*words: str) -> None:
    """`run --engine guest` on the example: seconds in all and by step, CPU seconds, the largest resident set."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        argv = [sys.executable, "-m", "cgroup_preflight", "run", "--engine=guest", f"--format=json={report}", *words]
        before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        process = subprocess.Popen(argv, cwd=EXAMPLE, stdout=subprocess.DEVNULL)
        peak = _watch(process)
        taken, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
        found = json.loads(report.read_text())
    steps = [item["evidence"] for item in found["findings"] if item["code"] == "CGP512"]
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    parts = {key.removesuffix("_seconds"): value for key, value in steps[0].items() if key.endswith("_seconds")}
    print(
        f"run {' '.join(words)} {found['verdict']}: {taken:.1f} s, CPU {cpu:.1f} s, resident {peak} MiB; "
        + ", ".join(f"{name} {value:.1f} s" for name, value in parts.items())
        + f", command itself {taken - sum(parts.values()):.1f} s"
    )


def _watch(process: "subprocess.Popen[bytes]") -> int:
    """The largest resident set of any process below, MiB: the guest's memory is shared by all of the engine's."""
    peak, over = 0, threading.Event()

    def look() -> None:
        nonlocal peak
        while not over.wait(0.2):
            for name in os.listdir("/proc"):
                if name.isdigit() and int(name) > process.pid:
                    peak = max(peak, _resident(name))

    thread = threading.Thread(target=look)
    thread.start()
    process.wait()
    over.set()
    thread.join()
    return peak


def _resident(pid: str) -> int:
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes()
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (OSError, ValueError, IndexError):
        return 0
    ours = words.startswith((b"/usr/bin/linux.uml", b"/usr/bin/qemu-system")) and b"cgpf-" in words
    return pages * os.sysconf("SC_PAGE_SIZE") >> 20 if ours else 0


def main() -> None:
    """All of it: the first run fills the cache and does not count."""
    boots()
    subprocess.run([sys.executable, "-m", "cgroup_preflight", "run", "--engine=guest"], cwd=EXAMPLE,
                   stdout=subprocess.DEVNULL, check=False)  # fmt: skip
    for _ in range(ROUNDS):
        run()
