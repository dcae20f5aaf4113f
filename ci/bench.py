"""Figures as ratios of one run: start-up against `python -c pass`, a smoke run against bare systemd-run.

python -m ci.bench [startup] [smoke] [guest]
"""

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from cgroup_preflight.guest.session import Guest, input_path
from ci import bench_guest
from ci.in_guest import boot

ROOT = Path(__file__).resolve().parents[1]
EXAMPLE = ROOT / "examples" / "shop"
PAIRS = 15

CONFIG = """\
[project]
name = "bench"
[services.job]
binary = "{binary}"
{limits}
[services.job.smoke]
args = ["1"]
ready = "exit"
"""

#: How many processes a run of so many services starts: all of the tool's own, those of systemd and of the services not.
COUNTED = """\
from cgroup_preflight.cli import common
from cgroup_preflight.smoke.run import smoke
config = common.load_config(None)
context = common.context(config, config.engine, ())
print(smoke(config, context.facts, context.engine, (), lambda text: None).processes_started)
"""
SERVICE = """\
[services.job{number}]
binary = "/bin/true"
smoke.ready = "exit"
"""


def timed(call: Callable[[], object]) -> float:
    """Seconds of one call."""
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def ratio(name: str, measured: list[float], base: list[float]) -> str:
    """One line: medians and the median of the ratios pair by pair."""
    ratios = [a / b for a, b in zip(measured, base, strict=True)]
    return (
        f"{name:<34} {statistics.median(measured) * 1000:7.1f} ms   base {statistics.median(base) * 1000:7.1f} ms"
        f"   ratio {statistics.median(ratios):.2f} ({min(ratios):.2f} .. {max(ratios):.2f})"
    )


def startup() -> None:
    """`--help` and `check` as whole processes, in turn with `python -c pass`."""

    def process(*words: str) -> Callable[[], object]:
        return lambda: subprocess.run([sys.executable, *words], cwd=EXAMPLE, capture_output=True, check=False)

    commands = {"cgroup-preflight --help": ("--help",), "cgroup-preflight check": ("check",)}
    for name, words in commands.items():
        ours, base = process("-m", "cgroup_preflight", *words), process("-c", "pass")
        ours(), base()
        pairs = [(timed(base), timed(ours)) for _ in range(PAIRS)]
        print(ratio(name, [b for _, b in pairs], [a for a, _ in pairs]))


def smoke() -> None:
    """What a smoke run adds to `systemd-run --wait` of the same binary, inside a guest."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for part, limits in (("plain", ""), ("limited", 'MemoryMax = "32M"\nCPUQuota = "50%"\nTasksMax = 32')):
            (folder / part).mkdir()
            text = CONFIG.format(binary="/bin/sleep", limits=limits)
            (folder / part / "cgroup-preflight.toml").write_text(text)
        for count in (1, 5):
            (folder / f"jobs{count}").mkdir()
            text = "".join(SERVICE.format(number=number) for number in range(count))
            (folder / f"jobs{count}" / "cgroup-preflight.toml").write_text(f'[project]\nname = "bench"\n{text}')
        with boot(folder) as guest:
            _processes(guest)
            _smoke_pairs(guest)


def _processes(guest: Guest) -> None:
    def count(services: int) -> int:
        folder = str(input_path("work") / f"jobs{services}")
        return int(guest.run(["python3", "-c", COUNTED], cwd=folder, env=_environment(), timeout=120).text)

    one, five = count(1), count(5)
    print(f"processes of the tool: {one} for 1 service, {five} for 5: {(five - one) / 4:.1f} per service")


def _environment() -> dict[str, str]:
    return {"PYTHONPATH": str(input_path("src")), "PYTHONPYCACHEPREFIX": "/tmp/pycache"}  # noqa: S108 - the guest's


def _smoke_pairs(guest: Guest) -> None:
    work = input_path("work")

    def bare() -> object:
        return guest.run(["systemd-run", "--wait", "--collect", "--quiet", "/bin/sleep", "1"])

    def ours(part: str) -> object:
        words = ["python3", "-m", "cgroup_preflight", "smoke", "--allow-unverified"]
        return guest.run(words, cwd=str(work / part), env=_environment(), timeout=120)

    def python() -> object:
        return guest.run(["python3", "-c", "pass"])

    ours("plain"), bare()
    for part in ("plain", "limited"):
        rounds = [(timed(bare), timed(lambda part=part: ours(part)), timed(python)) for _ in range(5)]  # type: ignore[misc]
        added = statistics.median(b - a for a, b, _ in rounds)
        base = statistics.median(a for a, _, _ in rounds)
        start = statistics.median(c for _, _, c in rounds)
        print(
            f"smoke, {part:<8} adds {added:.2f} s to systemd-run --wait ({base:.2f} s); python -c pass there: {start:.2f} s"
        )


def main(words: list[str]) -> int:
    """Runs the parts named, or all."""
    parts = {"startup": startup, "smoke": smoke, "guest": bench_guest.main}
    for name in words or list(parts):
        parts[name]()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
