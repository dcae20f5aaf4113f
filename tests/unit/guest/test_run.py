"""A run in a guest, played: what goes in, how long it may take, and which reports of it are believed."""

import itertools
import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cgroup_preflight import __version__
from cgroup_preflight.config.model import Target
from cgroup_preflight.core.errors import UsageError
from cgroup_preflight.core.report import By, LimitResult, Remedy, Ruling, Status, Verdict
from cgroup_preflight.guest import answer, bytecode, capacity, qemu, tools
from cgroup_preflight.guest import run as guest_engine
from cgroup_preflight.guest.image import RootImage, cache_folder
from cgroup_preflight.guest.project import Project, project_of
from cgroup_preflight.guest.recipe import recipe_for
from cgroup_preflight.guest.requirements import GuestMachine
from cgroup_preflight.guest.run import GuestPackages, GuestTask, Ready
from cgroup_preflight.guest.spec import GuestEngine, GuestError, GuestSpec
from cgroup_preflight.report import codec
from tests.unit.core.making import config_of
from tests.unit.golang.test_dynamic import elf
from tests.unit.guest.played import LIMITS, PlayedGuest, config, ended, finding, report
from tests.unit.guest.test_image import put_image

PROJECT = Project(inputs={"project/shop.toml": Path("/h/shop.toml")}, folder="/in/project", config_name="shop.toml",
                  outside=(), size=10)  # fmt: skip
ROOT = RootImage(name="debian-12-x", root=Path("/cache/root.ext4"), kernel=None)


def task(*names: str, **changes: object) -> GuestTask:
    made = GuestTask(config=config(), words=("run", "--verbose"), names=names, distro="debian-12")
    return replace(made, **changes)


def read(data, returncode: int = 0, stderr: bytes = b"", made: GuestTask | None = None):
    data = data if isinstance(data, bytes) else codec.render(data).encode()
    return answer.read_report(PlayedGuest(), made or task(), ended(data, returncode, stderr))


def refused(data, returncode: int = 0, **how: object) -> str:
    with pytest.raises(GuestError) as lost:
        read(data, returncode, **how)
    assert lost.value.console == ("last console line",)
    assert lost.value.what.startswith("debian-12 guest (uml) returned ")
    return lost.value.what


# What is believed.


def test_a_report_about_all_services_and_their_limits_is_taken():
    assert read(report()) == report()


def test_a_report_about_the_named_services_is_taken():
    alone = report({"web": LIMITS["web"]})
    assert read(alone, made=task("web")) == alone
    assert "leaves out services" in refused(alone)
    assert "leaves out services" in refused(alone, made=task("api", "web"))


@pytest.mark.parametrize("status", [Status.FAIL, Status.UNVERIFIED])
def test_a_verdict_other_than_pass_needs_no_services(status):
    bad = report({}, finding("CGP511", status, "api"))
    assert read(bad, 1 if status is Status.FAIL else 3).verdict.value == status.value


@pytest.mark.parametrize(("verdict", "code"), [(Status.PASS, 0), (Status.FAIL, 1), (Status.UNVERIFIED, 3)])
def test_verdict_and_exit_status_have_to_agree(verdict, code):
    made = report(LIMITS, finding("CGP511", verdict, "api"))
    assert read(made, code) == made
    for other in {0, 1, 2, 3, 4, -9} - {code}:
        assert f"returned the verdict {verdict.value}, but the tool in it exited with {other}" in refused(made, other)


# What is hostile.


def test_a_report_of_another_version_is_refused():
    assert "another version" in refused(report(version="0.0.1"))
    assert __version__ != "0.0.1"


def test_a_policy_is_applied_on_the_host_alone():
    ruling = Ruling(by=By.IGNORE, was=Status.FAIL, reason="so it says")
    assert "a policy applied" in refused(report(LIMITS, replace(finding("CGP506", Status.SKIP, "api"), policy=ruling)))


def test_of_another_schema():
    document = json.loads(codec.render(report()))
    for version in (0, 2, "1", None):
        document["schema_version"] = version
        assert "no valid report (schema_version" in refused(json.dumps(document).encode())


@given(end=st.integers(0, len(codec.render(report()).rstrip()) - 1))
def test_a_report_that_is_cut_is_refused_wherever(end):
    assert "no valid report" in refused(codec.render(report()).rstrip().encode()[:end])


def test_the_largest_report_is_read_and_the_next_larger_one_is_not():
    text = codec.render(report()).encode()
    assert answer._REPORT_MAX == 8 * 1024 * 1024
    assert read(text + b" " * (answer._REPORT_MAX - len(text))) == report()
    larger = text + b" " * (answer._REPORT_MAX - len(text) + 1)
    assert "returned 8388609 bytes; a report has at most 8388608" in refused(larger)


def test_a_pass_with_a_failed_finding_is_refused():
    document = json.loads(codec.render(report()))
    document["findings"][0]["status"] = "fail"
    assert "no valid report (the verdict is pass, better than its findings" in refused(json.dumps(document).encode())


def test_services_that_nobody_started_are_refused_whatever_the_verdict():
    other = {**LIMITS, "intruder": (("memory.max", "4096"),)}
    assert "services that were not started" in refused(report(other))
    assert "services that were not started" in refused(report(other, finding("CGP511", Status.FAIL, "api")), 1)
    # One of the config that was not asked for, too.
    assert "services that were not started" in refused(report(), made=task("web"))


@pytest.mark.parametrize(
    "limits",
    [
        LIMITS["api"][1:],
        LIMITS["api"][:-1],
        (*LIMITS["api"][:-1], ("cpu.max", "60000 100000")),
        (("pids.max", "64"), ("memory.max", str(65 << 20)), ("cpu.max", "50000 100000")),
        (("pids.max", "65"), *LIMITS["api"][1:]),
        (("pids.max", "64"), ("memory.high", str(64 << 20)), ("cpu.max", "50000 100000")),
    ],
)
def test_a_pass_without_a_limit_of_the_config_is_refused(limits):
    """As the report of another config would be, or of this one before it was changed."""
    made = report({**LIMITS, "api": limits})
    assert "not about this config: a pass that leaves out limits of api" in refused(made)


def test_a_pass_of_a_service_without_any_limit_is_refused():
    made = report({**LIMITS, "api": ()})
    warned = (*(replace(one, status=Status.WARN) if one.code == "CGP501" else one for one in made.findings),)
    assert "no limit in force" in refused(replace(made, findings=warned))


def test_more_limits_than_the_config_has_are_taken():
    """The tool may add settings for a Go program."""
    made = report({**LIMITS, "web": (*LIMITS["web"], ("memory.high", "4096"))})
    assert read(made) == made


def test_the_same_limit_of_two_levels_has_to_be_there_twice():
    text = '[slices.a]\nMemoryMax = "64M"\n[services.api]\nbinary = "api"\nslice = "a"\nMemoryMax = "64M"\n'
    made, one = task(config=config_of(text)), ("memory.max", str(64 << 20))
    assert read(report({"api": (one, one)}), made=made).verdict is Verdict.PASS
    assert "limits of api" in refused(report({"api": (one,)}), made=made)


def test_of_percentages_only_the_file_is_compared():
    """They are of the guest's memory and tasks. A quota is not: it is of one CPU anywhere."""
    text = '[services.api]\nbinary = "api"\nMemoryMax = "50%"\nTasksMax = "10%"\nCPUQuota = "20%"\n'
    made = task(config=config_of(text))
    limits = (("memory.max", "999424"), ("pids.max", "7"), ("cpu.max", "20000 100000"))
    assert read(report({"api": limits}), made=made).verdict is Verdict.PASS
    for number in range(3):
        assert "limits of api" in refused(report({"api": (*limits[:number], *limits[number + 1 :])}), made=made)
    assert "limits of api" in refused(report({"api": (*limits[:2], ("cpu.max", "30000 100000"))}), made=made)


def test_of_services_that_were_not_named_no_limit_is_expected():
    assert read(report({"web": LIMITS["web"]}), made=task("web")).services[0].name == "web"


def test_what_the_tool_said_last_is_told_without_what_moves_a_terminal():
    stderr = b"one\ntwo\nthree\n\x1b[31mfour\xff\n" + b"\n"
    said = refused(b"", 4, stderr=stderr)
    assert said.endswith("the tool in it exited with 4: two / three / ?[31mfour\ufffd")
    assert refused(b"", 4).endswith("exited with 4")
    assert len(refused(b"", 4, stderr=b"x" * 10_000)) < 600
    assert "x" * 400 in refused(b"", 4, stderr=b"x" * 10_000)
    assert "x" * 401 not in refused(b"", 4, stderr=b"x" * 10_000)


# How it is run.


def _ready(guest: PlayedGuest, made: GuestTask) -> Ready:
    machine = GuestMachine(engine=GuestEngine.UML, cpus=1, memory_mib=256)
    return Ready(root=ROOT, guest=guest, task=made, project=PROJECT, source="/source", machine=machine, lost_boot="")


def finished(guest: PlayedGuest, made: GuestTask, now=lambda: 0.0):
    with guest:
        return guest_engine._finished(_ready(guest, made), lambda: None, now)


def test_the_command_in_the_guest():
    guest = PlayedGuest(ended(b"out"), turns=2)
    assert finished(guest, task("web")).stdout == b"out"
    assert guest.spawned == {
        "words": ["run", "--verbose", "web", "--config=/in/project/shop.toml", "--engine=systemd", "--format=json",
                  "--inside", "--allow-outside=/"],
        "folders": ["/source", "/usr/lib/python3/dist-packages"],
        "cwd": "/in/project",
        "env": {"PYTHONDONTWRITEBYTECODE": "1"},
    }  # fmt: skip
    assert guest.polled == [5.0] * 3
    assert guest.asked == []  # after a pass, nobody looks for what ran out


def test_other_work_is_done_while_the_command_runs():
    guest, seen = PlayedGuest(ended(b"out"), turns=2), []

    def meanwhile():
        seen.append((guest.open, bool(guest.spawned), list(guest.polled)))

    with guest:
        assert guest_engine._finished(_ready(guest, task()), meanwhile, lambda: 0.0).stdout == b"out"
    assert seen == [(True, True, [])]


def test_it_is_given_up_after_its_time_and_not_before():
    made = task()
    limit = guest_engine.time_limit(made)
    times = iter([10.0, 10.0 + limit, 10.0 + limit + 0.1])
    guest = PlayedGuest(turns=99)
    with pytest.raises(GuestError, match=f"guest \\(uml\\) did not finish within {limit:.0f} s") as lost:
        finished(guest, made, lambda: next(times))
    assert len(guest.polled) == 2
    assert lost.value.console == ("last console line",)


@pytest.mark.parametrize("code", [1, 3, 4, -9])
def test_a_guest_that_ran_out_of_memory_is_lost_whatever_its_report_says(code):
    guest = PlayedGuest(ended(b"", code), dmesg=ended(b"Out of memory: Killed process 7 (web)\nNo space left\n"))
    with pytest.raises(GuestError) as lost:
        finished(guest, task())
    assert lost.value.what == "debian-12 guest (uml) ran short: Out of memory: Killed process 7 (web)"
    assert "dmesg" in guest.asked[0][2]
    assert finished(PlayedGuest(ended(b"x", code)), task()).stdout == b"x"
    with pytest.raises(GuestError) as lost:
        finished(PlayedGuest(ended(b"", code), dmesg=ended(b"x" * 500)), task())
    assert lost.value.what.endswith("ran short: " + "x" * 120)


def test_the_time_limit_grows_with_the_slowest_service_and_with_the_limits():
    smoke = '[services.{}.smoke]\nstart_timeout = "{}s"\nduration = "{}s"\nstop_timeout = "{}s"\n'
    text = '[services.a]\nbinary = "a"\n[services.b]\nbinary = "b"\n'
    base = task(config=config_of(text + smoke.format("a", 10, 2, 3) + smoke.format("b", 1, 20, 3)))
    assert guest_engine.time_limit(base) == 180 + 8 * (10 + 20 + 3 + 2 * 3)
    # Four limits: of a slice, and of services.
    assert guest_engine.time_limit(task()) == 180 + 8 * (30 + 5 + 10 + len(task().config.services) * 3) + 35 * 4
    many = "".join(f'[services.s{number}]\nbinary = "s"\nMemoryMax = "64M"\nTasksMax = 9\n' for number in range(25))
    assert guest_engine.time_limit(task(config=config_of(many))) == 180 + 8 * (30 + 5 + 10 + 25 * 3) + 35 * 40


def test_files_with_absolute_paths_are_put_in_their_places():
    outside = (("/in/absolute/opt/a", "/opt/a"), ("/in/absolute/etc/b", "/etc/b"))
    with PlayedGuest() as guest:
        guest_engine.place_files(guest, replace(PROJECT, outside=outside))
    (argv,) = guest.asked
    assert argv[:2] == ("sh", "-euc")
    assert argv[4:] == (*outside[0], *outside[1])
    bad = PlayedGuest(mount=ended(returncode=1, stderr=b"read-only \xff" + b"y" * 300))
    with bad, pytest.raises(GuestError, match="could not put a file at its absolute path: read-only \ufffd") as lost:
        guest_engine.place_files(bad, replace(PROJECT, outside=outside))
    assert len(lost.value.what) == len("could not put a file at its absolute path: ") + 200


# How it is booted.


class Panicking:
    """Ends on its way as often as `ends` says."""

    def __init__(self, ends: int) -> None:
        self.ends, self.booted = ends, 0

    def __call__(self) -> PlayedGuest:
        self.booted += 1
        return self if self.booted <= self.ends else PlayedGuest()

    def __enter__(self):
        raise GuestError("debian-13 guest (qemu) ended (booting)", remedy=Remedy(title="read the console lines"))

    def __exit__(self, *_: object) -> None:
        return


def test_a_guest_that_panics_once_is_booted_again_and_that_is_said():
    boot, said = Panicking(1), []
    with guest_engine.booted(boot, said.append, lambda: 0.0) as (guest, lost):
        assert guest.open
        assert lost == "debian-13 guest (qemu) ended (booting)"
    assert not guest.open
    assert said == ["debian-13 guest (qemu) ended (booting); booting once more"]


def test_one_that_boots_at_once_says_nothing():
    with guest_engine.booted(Panicking(0), pytest.fail, lambda: 0.0) as (_, lost):
        assert lost == ""


@pytest.mark.parametrize(("seconds", "boots"), [(60.0, 2), (60.1, 1)])
def test_twice_is_lost_and_so_is_one_that_took_its_time(seconds, boots):
    boot, times = Panicking(2), itertools.chain([5.0], itertools.repeat(5.0 + seconds))
    with pytest.raises(GuestError), guest_engine.booted(boot, lambda _: None, lambda: next(times)):
        pass
    assert boot.booted == boots


# The whole way.


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A project with two programs, a cache with a finished image, and the engines' programs installed."""
    (tmp_path / "bin").mkdir()
    for name in ("linux.uml", "qemu-system-x86_64", "mke2fs"):
        (tmp_path / "bin" / name).touch(mode=0o755)
    monkeypatch.setattr(tools, "_SEARCH_PATH", str(tmp_path / "bin"))
    monkeypatch.setattr(qemu, "_KVM", str(tmp_path / "kvm"))
    for name in ("api", "web", "shop.toml"):
        (tmp_path / name).write_text("x")
    return tmp_path


def run_played(place, guest, said, *, distro="debian-12", kernel=False, meanwhile=lambda: None, **changes):
    environment = {"XDG_CACHE_HOME": str(place)}
    put_image(cache_folder(environment), recipe_for(distro, with_kernel=kernel))
    booted = []

    def boot(spec, image):
        booted.append((spec, image))
        return guest

    made = task(distro=distro, config=config(path="shop.toml", folder=str(place), **changes))
    times = itertools.count(0.0, 0.25)
    done = guest_engine.run_task(made, environment, said.append, meanwhile, boot=boot, now=lambda: next(times))
    return done, *booted


def test_a_run_from_image_to_report(place):
    """The source goes in, as nothing was compiled for this image yet, and no compiler works in this guest."""
    guest, said = PlayedGuest(ended(codec.render(report()).encode()), copytree=ended(returncode=1)), []
    done, (spec, image) = run_played(place, guest, said)
    assert done.report == report()
    assert (done.machine.engine, done.machine.cpus, done.distro) == (GuestEngine.UML, 1, "debian-12")
    assert (done.fence, done.lost_boot) == ("landlock 7", "")
    assert list(done.seconds) == ["boot", "prepare", "run", "end"]
    assert set(done.seconds.values()) <= {0.25, 0.5, 0.75}
    assert image.name == recipe_for("debian-12").name
    assert spec.inputs == {
        "project/shop.toml": place / "shop.toml", "project/api": place / "api", "project/web": place / "web",
        "src/cgroup_preflight": bytecode.source_folder(),
    }  # fmt: skip
    assert (spec.tool, spec.network, spec.accelerator, spec.boot_timeout) == (None, False, "tcg", 120)
    assert (spec.memory_mib, spec.distro) == (done.machine.memory_mib, "debian-12")
    assert guest.spawned["folders"][0] == "/run/preflight/in/src"
    assert (guest.spawned["cwd"], guest.open, guest.network) == ("/run/preflight/in/project", False, 0)
    assert said == [
        "booting the debian-12 guest (uml)", "compiling this tool for the guest (once)", "testing the limits in the guest",
    ]  # fmt: skip


def test_the_guest_ends_while_its_report_is_read(place, monkeypatch):
    guest, seen, real = PlayedGuest(ended(codec.render(report()).encode())), [], answer.report_of
    monkeypatch.setattr(answer, "report_of", lambda data: seen.append(guest.open) or real(data))
    run_played(place, guest, [])
    assert seen == [False]


@pytest.mark.parametrize("error", [ZeroDivisionError, OSError, KeyboardInterrupt])
def test_the_guest_ends_when_other_work_fails(place, error):
    def broken():
        assert guest.open
        raise error

    guest = PlayedGuest(ended(codec.render(report()).encode()), copytree=ended(returncode=1))
    with pytest.raises(error):
        run_played(place, guest, [], meanwhile=broken)
    assert guest.spawned
    assert not guest.open


def test_what_was_compiled_before_goes_in_and_nothing_is_compiled(place):
    compiled = bytecode._home(place / "cgroup-preflight" / "images", recipe_for("debian-13").name)
    compiled.mkdir(parents=True)
    guest, said, images = PlayedGuest(ended(codec.render(report()).encode())), [], place / "cgroup-preflight" / "images"

    def removed():
        """Another job removes the image and what it can of the modules."""
        shutil.rmtree(images / recipe_for("debian-13").name)
        bytecode.remove_unused(images)
        assert compiled.exists()

    _, (spec, _) = run_played(place, guest, said, distro="debian-13", meanwhile=removed)
    bytecode.remove_unused(images)
    assert not compiled.exists()
    assert spec.inputs["src/cgroup_preflight"] == compiled
    assert spec.tool == compiled
    assert guest.asked == []
    assert len(said) == 2


def test_the_machine_and_the_network_that_the_config_asks_for(place):
    guest = PlayedGuest(ended(codec.render(report()).encode()), copytree=ended(returncode=1))
    target = Target(machine="qemu", network=True)
    done, (spec, _) = run_played(place, guest, [], kernel=True, target=target)
    assert (spec.engine, spec.cpus, spec.network, spec.boot_timeout) == (GuestEngine.QEMU, 2, True, 300)
    assert (done.machine.engine, guest.network) == (GuestEngine.QEMU, 1)


@pytest.mark.starts_processes
def test_a_guest_starts_without_what_builds_images_and_reads_reports():
    """Each takes some milliseconds, before which no guest starts."""
    late = ["email.utils", "concurrent.futures", "uuid", *(f"cgroup_preflight.{name}" for name in (
        "guest.answer", "guest.bare", "guest.findings", "guest.foreign", "guest.unpack", "report.read", "artifacts",
        "config.installed_units",
    ))]  # fmt: skip
    script = f"import sys, cgroup_preflight.guest.run; print([name for name in {late} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "[]\n", done.stderr


def test_a_distribution_that_there_is_not(place):
    with pytest.raises(UsageError):
        guest_engine.run_task(
            task(distro="beos", config=config(path="shop.toml", folder=str(place))), {}, lambda _: None
        )


def test_kernel_arguments_and_accelerator_are_those_given():
    machine = GuestMachine(engine=GuestEngine.QEMU, cpus=3, memory_mib=640)
    made = guest_engine._spec(task(kernel_args=("psi=0",)), machine, PROJECT, None, "kvm")
    assert isinstance(made, GuestSpec)
    assert (made.kernel_args, made.accelerator, made.cpus, made.memory_mib) == (("psi=0",), "kvm", 3, 640)


def packages(**changes: object) -> GuestPackages:
    """Two built packages, whose requirements are met and whose steps are in every report."""
    made = GuestPackages(
        words=("--selection={}",), inputs={"packages/0.deb": "/h/x.deb"}, seconds=100.0,
        require=lambda status, distro: None, contradiction=lambda report: "",
    )  # fmt: skip
    return replace(made, **changes)


def test_packages_go_in_with_the_units_of_the_system_and_have_time_of_their_own():
    machine = GuestMachine(engine=GuestEngine.UML, cpus=1, memory_mib=640)
    with_packages = task(packages=packages(), kernel_args=("psi=0",))
    made = guest_engine._spec(with_packages, machine, PROJECT, None, "tcg")
    assert made.inputs["packages/0.deb"] == Path("/h/x.deb")
    folders = made.kernel_args[0].removeprefix("SYSTEMD_UNIT_PATH=").split(":")
    assert "/usr/lib/systemd/system" in folders
    assert folders.index("/usr/local/lib/preflight-quick") < folders.index("/usr/lib/systemd/system")
    assert made.kernel_args[1:] == ("psi=0",)
    assert guest_engine.time_limit(with_packages) > guest_engine.time_limit(task()) + 100


def test_a_pass_that_lacks_a_step_of_the_packages_is_refused():
    assert read(report(), made=task(packages=packages())) == report()
    lacking = task(packages=packages(contradiction=lambda report: "a pass without the removal"))
    assert "a pass without the removal" in refused(report(), made=lacking)


@pytest.mark.starts_processes
def test_what_packages_lack_is_told_before_the_boot(place):
    """The image's file system is read by debugfs, which is a script here: units of the image are no file system."""
    (place / "bin/debugfs").write_text('#!/bin/sh\necho "$@" >&2\necho "Package: libc6"\n')
    (place / "bin/debugfs").chmod(0o755)
    put_image(cache_folder({"XDG_CACHE_HOME": str(place)}), recipe_for("debian-12"))
    seen = []

    def require(status, distro):
        seen.append((status, distro))
        raise GuestError("it lacks libevent", remedy=Remedy(title="add it"))

    made = task(config=config(path="shop.toml", folder=str(place)), packages=packages(require=require))
    with pytest.raises(GuestError, match="it lacks libevent"):
        guest_engine.run_task(made, {"XDG_CACHE_HOME": str(place)}, lambda _: None, boot=pytest.fail)
    assert seen == [("Package: libc6\n", "debian-12")]


@pytest.mark.parametrize(
    ("text", "mebibytes"),
    [
        ("MemTotal: 9 kB\nMemAvailable:    2097152 kB\nSwapTotal: 0 kB\n", 2048),
        ("MemAvailable: 2097151 kB\n", 2047), ("MemTotal: 9 kB\n", 1024), ("", 1024),
    ],
)  # fmt: skip
def test_the_memory_that_this_host_can_give(text, mebibytes):
    assert capacity._available_mib(text) == mebibytes


def test_limits_that_could_not_be_read_count_for_a_share():
    """A share without its file is in the report all the same; that it is excused is for the reader of reports."""
    text = '[services.api]\nbinary = "api"\nCPUWeight = 50\nTasksMax = 9\n'
    made = report({"api": (("pids.max", "9"),)})
    (api,) = made.services
    weight = LimitResult(file="x/cpu.weight", expected="50", actual=None, ok=False)
    absent = replace(api, limits=(*api.limits, weight))
    warned = replace(made.findings[0], status=Status.WARN, evidence={"x/cpu.weight": "absent"})
    made = replace(made, services=(absent,), findings=(warned, *made.findings[1:]))
    assert read(made, made=task(config=config_of(text))) == made


def test_an_image_for_which_this_tool_is_compiled_is_not_booted(place):
    """By its build, or by an earlier guest."""
    folder = place / "images"
    root = put_image(folder, recipe_for("debian-12"))
    bytecode._home(folder, root.name).mkdir(parents=True)
    guest_engine.warm_up(root, "debian-12", GuestEngine.UML, folder, pytest.fail)


@pytest.mark.parametrize(("engine", "memory", "seconds"), [(GuestEngine.UML, 256, 120), (GuestEngine.QEMU, 512, 300)])
def test_an_image_that_was_never_booted_is(place, engine, memory, seconds):
    folder, said, booted, guest = place / "images", [], [], PlayedGuest(copytree=ended(returncode=1))
    root = put_image(folder, recipe_for("debian-13"))
    guest_engine.warm_up(root, "debian-13", engine, folder, said.append, boot=lambda *how: booted.append(how) or guest)
    ((spec, image),) = booted
    assert (image, spec.engine, spec.distro, spec.memory_mib) == (root, engine, "debian-13", memory)
    assert (spec.boot_timeout, spec.accelerator) == (seconds, "tcg")
    assert spec.inputs == {"src/cgroup_preflight": bytecode.source_folder()}
    assert "copytree" in guest.asked[0][3]
    assert said == ["booting it once"]


def test_what_the_image_lacks_is_told_before_the_boot(place):
    """All of it at once; and the same programs run where the image has it."""
    (place / "api").write_text("#!/usr/bin/node\n")
    (place / "web").write_bytes(elf("/lib64/ld.so", ("libpq.so.5",)))
    made = task(config=config(path="shop.toml", folder=str(place)))
    root = RootImage(name="x", root=place / "root", kernel=None, listing=place / "listing")
    root.listing.write_text("/lib64/ld.so\n/bin/sh\n")
    handed = project_of(made.config)
    with pytest.raises(GuestError) as lost:
        guest_engine.require_system(made, root, handed)
    assert lost.value.what == (
        "the debian-12 guest lacks /usr/bin/node (needed by api), libpq.so.5 (needed by web); no service was run"
    )
    root.listing.write_text("/lib64/ld.so\n/usr/bin/node\n/usr/lib/libpq.so.5\n")
    guest_engine.require_system(made, root, handed)
    guest_engine.require_system(made, replace(root, listing=None), handed)


def test_a_machine_without_ipv6_is_refused_before_the_boot(place):
    text = '[services.api]\nbinary = "api"\n[services.api.smoke]\nready = "tcp://[::1]:80"\n[target]\nmachine = "uml"\n'
    made = replace(config_of(text), path="shop.toml", folder=str(place))
    with pytest.raises(GuestError, match="has no IPv6, and api is to be ready"):
        guest_engine.run_task(task(config=made), {"XDG_CACHE_HOME": str(place)}, pytest.fail, boot=pytest.fail)
