"""Measure ratios within one run: start-up against `python -c pass`, a smoke run against plain systemd-run,
`inject` against dpkg-deb.

python -m ci.bench [startup] [check] [smoke] [guest] [inject] [exporter] [hosts]
"""

import compileall
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from cgroup_preflight.guest import image
from cgroup_preflight.guest.recipe import recipe_for
from cgroup_preflight.guest.session import Guest, input_path
from cgroup_preflight.guest.spec import BootMode, GuestSpec
from ci import bench_exporter, bench_guest, bench_hosts, bench_image, bench_inject
from ci.in_guest import boot
from ci.side_by_side import compare, timed

ROOT = Path(__file__).resolve().parents[1]
EXAMPLE = ROOT / "examples" / "shop"
OURS = ("-m", "cgroup_preflight")
#: The most similar tool; it checks a host by moving itself into cgroups.
PEER = "benchexec==3.35"

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

#: Prints how many processes the tool itself starts in a run; those of systemd and of the services do not count.
COUNTED = """\
from cgroup_preflight.cli import common
from cgroup_preflight.smoke.run import smoke
config = common.load_config(None)
plan = common.plan_of(config)
context = common.context(config, config.engine, (), plan=plan)
print(smoke(config, plan, context.facts, context.engine, (), lambda text: None).processes_started)
"""
SERVICE = """\
[services.job{number}]
binary = "/bin/true"
smoke.ready = "exit"
"""


def startup() -> None:
    """Time `--help` and `check` (without and with a config) as whole processes, in turn with `python -c pass`."""
    # Like an installed package: with PYTHONDONTWRITEBYTECODE set, Python would compile the checkout at each start.
    compileall.compile_dir(str(ROOT / "src"), quiet=1)
    commands = {"cgroup-preflight --help": (*OURS, "--help"), "cgroup-preflight check": (*OURS, "check")}
    with tempfile.TemporaryDirectory() as empty:
        compare(commands, empty)
    compare({"cgroup-preflight check, a config": (*OURS, "check")}, str(EXAMPLE))


def check() -> None:
    """Time `check` and BenchExec's own check of a host, in a guest with cgroup v2 and systemd."""
    with tempfile.TemporaryDirectory() as name:
        words = [sys.executable, "-m", "pip", "install", "--quiet", "--target", name, PEER]
        subprocess.run(words, check=True)
        spec = GuestSpec(mode=BootMode.FULL, inputs={"src": ROOT / "src", "ci": ROOT / "ci", "peer": Path(name)})
        with Guest(spec, image.ensure(recipe_for(spec.distro), image.cache_folder(os.environ))) as guest:
            folders = f"{input_path('src')}:{input_path('peer')}"
            commands = ("check=-m cgroup_preflight check", "benchexec.check_cgroups=-m benchexec.check_cgroups")
            done = guest.run(
                ["python3", str(input_path("ci") / "side_by_side.py"), *commands], timeout=600,
                env={"PYTHONPATH": folders, "PYTHONPYCACHEPREFIX": "/tmp/pycache"},  # noqa: S108 - the guest's
            )  # fmt: skip
            print(f"in a guest ({PEER}, no pystemd):\n{done.text}{done.stderr.decode(errors='replace')}", end="")


def smoke() -> None:
    """Time what a smoke run adds to `systemd-run --wait` of the same binary, inside a guest."""
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


def guest() -> None:
    """Measure the build of an image, then boots and runs."""
    bench_image.main()
    bench_guest.main()


def main(words: list[str]) -> int:
    """Run the named parts, or all of them."""
    parts = {
        "startup": startup, "check": check, "smoke": smoke, "guest": guest, "inject": bench_inject.main,
        "exporter": bench_exporter.main, "hosts": bench_hosts.main,
    }  # fmt: skip
    for name in words or list(parts):
        parts[name]()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
