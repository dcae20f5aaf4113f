"""Measure the guest: a quick boot against a plain boot of the same root, the time of each step of a whole run, and that
of an earlier commit in turn with it.
"""

import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from cgroup_preflight.config import FILE_NAME as CONFIG
from cgroup_preflight.guest import image, tools, uml_kernel
from cgroup_preflight.guest.machine import PROGRAMS
from cgroup_preflight.guest.qemu import accelerator
from cgroup_preflight.guest.recipe import recipe_for
from cgroup_preflight.guest.session import Guest
from cgroup_preflight.guest.spec import BootMode, GuestEngine, GuestSpec
from ci import bench_guest_earlier

EXAMPLE = Path(__file__).resolve().parents[1] / "examples" / "shop"
ROUNDS = 3
#: What makes a full boot a plain one: the distribution's own units and generators, without any of our masks in /etc. What
#: generators write is named, too: it has `systemd.wants=` in it, by which the agent is started.
PLAIN = (
    (
        "SYSTEMD_UNIT_PATH=/run/systemd/transient:/run/systemd/generator.early:/run/systemd/system:/run/systemd/generator"
        ":/lib/systemd/system:/run/systemd/generator.late:/usr/local/lib/preflight-quick"
    ),
    "SYSTEMD_GENERATOR_PATH=/lib/systemd/system-generators",
    "systemd.wants=preflight-agent.service",
)


def boots(machine: str = "uml") -> float:
    """Time quick, full and plain boots of a machine in turn and print ratios; returns the median of the plain ones in seconds."""
    engine, folder = GuestEngine(machine), image.cache_folder(os.environ)
    emulated = engine is GuestEngine.QEMU
    root = image.ensure(recipe_for("debian-12", with_kernel=emulated), folder, print)
    whole = GuestSpec(
        engine=engine, mode=BootMode.FULL, boot_timeout=300.0, accelerator=accelerator(folder) if emulated else "tcg"
    )
    specs = {"quick": replace(whole, mode=BootMode.QUICK), "full": whole, "plain": replace(whole, kernel_args=PLAIN)}
    seconds: dict[str, list[float]] = {name: [] for name in specs}
    kernel = ""
    for _ in range(ROUNDS):
        for name, spec in specs.items():
            with Guest(spec, root) as guest:
                seconds[name].append(guest.boot_seconds)
                kernel = kernel or guest.run(["uname", "-r"]).text.strip()
    plain = statistics.median(seconds["plain"])
    for name in ("quick", "full"):
        ratios = [one / other for one, other in zip(seconds[name], seconds["plain"], strict=True)]
        print(
            f"{machine} {kernel}: {name:<6} boot {statistics.median(seconds[name]):5.1f} s   plain {plain:5.1f} s"
            f"   ratio {statistics.median(ratios):.2f} ({min(ratios):.2f} .. {max(ratios):.2f})"
        )
    return plain


def kernels() -> None:
    """Print the ratio of runs with the newer user-mode-linux to runs with the one of this host, in turn."""
    folder = image.cache_folder(os.environ)
    if uml_kernel.found_in(folder) is None or not tools.is_installed(PROGRAMS[GuestEngine.UML]):
        print("user-mode-linux: only one here, nothing to compare")
        return
    with tempfile.TemporaryDirectory() as home:
        # The same images and modules in a cache without the newer kernel.
        other = Path(home) / "cgroup-preflight" / "images"
        other.mkdir(parents=True)
        (other.parent / "bytecode").symlink_to(folder.parent / "bytecode")
        for item in image.list_images(folder):
            (other / item.name).symlink_to(item.root.parent)
        ratios = []
        for _ in range(ROUNDS):
            own = run("uml", 1.0, {**os.environ, "XDG_CACHE_HOME": home})
            ratios.append(run("uml", 1.0) / own)
    print(
        f"newer user-mode-linux: {statistics.median(ratios):.2f} of the time ({min(ratios):.2f} .. {max(ratios):.2f})"
    )


def run(machine: str, plain: float, environment: Mapping[str, str] | None = None) -> float:
    """Print for `run --engine guest` on the example: seconds in total and of each step, CPU seconds, resident set.

    `plain` is the time of a plain boot of user-mode-linux in seconds; returns the total as a multiple of it.
    """
    with tempfile.TemporaryDirectory() as folder:
        report, copy = Path(folder) / "report.json", Path(folder) / "shop"
        copy.mkdir()
        shutil.copytree(EXAMPLE / "dist", copy / "dist")
        config = (EXAMPLE / CONFIG).read_text()
        (copy / CONFIG).write_text(f'{config}\n[target]\nmachine = "{machine}"\n')
        argv = [sys.executable, "-m", "cgroup_preflight", "run", "--engine=guest", f"--format=json={report}"]
        before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        process = subprocess.Popen(argv, cwd=copy, stdout=subprocess.DEVNULL, env=environment)
        peak = _watch(process)
        taken, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
        found = json.loads(report.read_text())
    steps = [item["evidence"] for item in found["findings"] if item["code"] == "CGP512"]
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    parts = {key.removesuffix("_seconds"): value for key, value in steps[0].items() if key.endswith("_seconds")}
    print(
        f"run {machine} {found['verdict']} on {steps[0]['kernel']}: {taken:.1f} s, {taken / plain:.2f} plain boots of user-mode-linux, CPU {cpu:.1f} s, "
        f"resident {peak} MiB; "
        + ", ".join(f"{name} {value:.1f} s" for name, value in parts.items())
        + f", command itself {taken - sum(parts.values()):.1f} s"
        + (", resumed from a saved state" if steps[0].get("resumed") else "")
    )
    return taken / plain


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
    program = words.partition(b"\0")[0].rpartition(b"/")[2]
    ours = program in (b"linux.uml", b"qemu-system-x86_64") and b"cgpf-" in words
    return pages * os.sysconf("SC_PAGE_SIZE") >> 20 if ours else 0


def main() -> None:
    """Run all measurements; the cache must be filled."""
    machines = ["uml", *(["qemu"] if tools.is_installed(PROGRAMS[GuestEngine.QEMU]) else [])]
    for machine in machines:
        subprocess.run([sys.executable, "-m", "cgroup_preflight", "guest", "build", "--machine", machine], check=True)
    plain = {machine: boots(machine) for machine in machines}
    kernels()
    results = {machine: statistics.median(run(machine, plain["uml"]) for _ in range(ROUNDS)) for machine in machines}
    for machine, ratio in results.items():
        own = ratio * plain["uml"] / plain[machine]
        print(
            f"{machine}: {ratio:.2f} plain boots of user-mode-linux ({plain['uml']:.1f} s), {own:.2f} of its own"
            f" ({plain[machine]:.1f} s)"
        )
    try:
        bench_guest_earlier.compare(plain)
    except bench_guest_earlier.NoCommitError as error:
        print(f"not compared with an earlier commit: {error}")
