"""A run in an imported root, played: what goes in, and what is said of a guest that fails."""

import itertools
import socket
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from cgroup_preflight.config.model import ReadyKind, ReadyTest, Target
from cgroup_preflight.core.errors import ConfigError, HostError, UsageError
from cgroup_preflight.core.report import Remedy, Status
from cgroup_preflight.guest import foreign_kernel, machine, outside, tools
from cgroup_preflight.guest.available import require_guest
from cgroup_preflight.guest.findings import GuestReport, guest_findings
from cgroup_preflight.guest.image import RootImage, cache_folder
from cgroup_preflight.guest.run import GuestPackages, GuestTask
from cgroup_preflight.guest.spec import GuestEngine, GuestError, GuestSpec
from tests.unit.guest.played import LIMITS, PlayedGuest, config, ended, finding, report
from tests.unit.guest.test_foreign import put

NAME = "ubuntu-24.04"
UNVERIFIED = report(LIMITS, finding("CGP511", Status.UNVERIFIED, "api"))


class Played(PlayedGuest):
    """As `PlayedGuest`, without an agent: `gone` is the error of one that does not answer any more."""

    def __init__(self, gone: str = "", **commands: object) -> None:
        super().__init__(**commands)
        self.spec = GuestSpec(distro=NAME)
        self.gone, self.has_ended = gone, threading.Event()

    def open_line(self, argv):
        raise AssertionError(argv)

    def require(self, doing):
        if self.gone or self.has_ended.is_set():
            raise GuestError(f"{self.spec.name} {self.gone or 'ended'} ({doing})", remedy=Remedy(title="x"))

    def end(self):
        self.has_ended.set()


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A project with two programs, the imported root, and the program of the engine."""
    (tmp_path / "bin").mkdir()
    for name in ("linux.uml", "mke2fs"):
        (tmp_path / "bin" / name).touch(mode=0o755)
    monkeypatch.setattr(tools, "_SEARCH_PATH", str(tmp_path / "bin"))
    for name in ("api", "web", "shop.toml"):
        (tmp_path / name).write_text("x")
    put(
        cache_folder({"XDG_CACHE_HOME": str(tmp_path)}),
        f"{NAME}-0123456789abcdef",
        file_server="usr/lib/ssh/sftp-server",
    )
    return tmp_path


def task(place, distro=NAME, packages=None, **changes):
    made = config(path="shop.toml", folder=str(place), **changes)
    return GuestTask(config=made, words=("run",), names=(), distro=distro, packages=packages)


def run(place, guest, test, said=None, **changes):
    booted = []

    def boot(spec, image):
        booted.append((spec, image))
        return guest

    times = itertools.count(0.0, 0.25)
    done = outside.run_outside(
        task(place, **changes), {"XDG_CACHE_HOME": str(place)}, (said if said is not None else []).append, test,
        boot=boot, now=lambda: next(times),
    )  # fmt: skip
    return done, *booted


def test_a_run_from_root_to_report(place):
    guest, said, seen = Played(), [], []

    def test(ready):
        seen.append(ready)
        return report()

    done, (spec, image) = run(place, guest, test, said)
    assert (done.report, done.machine.engine, done.distro, done.from_here) == (report(), GuestEngine.UML, NAME, True)
    assert (done.image, image.distro, image.bare) == (f"{NAME}-0123456789abcdef", NAME, True)
    assert list(done.seconds) == ["boot", "prepare", "run", "end"]
    assert set(spec.inputs) == {"project/shop.toml", "project/api", "project/web"}
    assert spec.kernel_args == ("init=/lib/systemd/systemd", "systemd.unified_cgroup_hierarchy=1")
    assert (spec.engine, spec.cpus, spec.memory_mib) == (GuestEngine.UML, 1, done.machine.memory_mib)
    assert said == [f"booting the {NAME} guest (uml)", "testing the limits in the guest"]
    assert (seen[0].guest, seen[0].project.folder) == (guest, "/run/preflight/in/project")
    assert not guest.open


@pytest.mark.parametrize(
    ("shell", "ready", "is_run"),
    [
        ("dash", "http", False),
        ("dash", "grpc", False),
        ("bash", "http", True),
        ("dash", "tcp", True),
        ("dash", "started", True),
    ],
)
def test_a_root_without_bash_cannot_be_asked_over_http(place, shell, ready, is_run):
    """Without it every connection ends at once, which would look like a service that does not answer."""
    (cache_folder({"XDG_CACHE_HOME": str(place)}) / f"{NAME}-0123456789abcdef" / "listing").write_text(
        f"/usr/bin/{shell}\n"
    )
    first, *others = config().services
    test = ReadyTest(kind=ReadyKind(ready), target="http://127.0.0.1:8080/")
    services = (replace(first, smoke=replace(first.smoke, ready=test)), *others)
    if is_run:
        assert run(place, Played(), lambda _: report(), services=services)[0].report == report()
    else:
        with pytest.raises(GuestError, match=f"has no bash, with which {first.name} would be asked"):
            run(place, Played(), lambda _: report(), services=services)


def lost(place, guest, test) -> str:
    with pytest.raises(GuestError) as error:
        run(place, guest, test)
    assert error.value.what.startswith(f"{NAME} guest (uml) ")
    return error.value.what.removeprefix(f"{NAME} guest (uml) ")


def raising(error):
    def test(_):
        raise error

    return test


REMEDY = Remedy(title="x")


@pytest.mark.parametrize(
    "test", [raising(HostError("the line ended", remedy=REMEDY)), raising(OSError("cut")), lambda _: report()]
)
def test_a_guest_that_is_gone_has_verified_nothing(place, test):
    assert lost(place, Played("ended"), test) == "ended (testing the limits)"


@pytest.mark.parametrize(
    "error",
    [HostError("it answers oddly", remedy=REMEDY), OSError("it answers oddly"),
     ConfigError("it answers oddly", where="", remedy=REMEDY, findings=())],
)  # fmt: skip
def test_an_error_of_one_that_answers_is_told(place, error):
    assert lost(place, Played(), raising(error)) == "could not be tested: it answers oddly"


@pytest.mark.parametrize("test", [raising(HostError("cannot write", remedy=REMEDY)), lambda _: UNVERIFIED])
def test_what_ran_short_is_no_fault_of_the_services(place, test):
    guest = Played(dmesg=ended(b"No space left on its disk\n"))
    assert lost(place, guest, test) == "ran short: No space left on its disk"


def test_a_pass_does_not_ask_for_what_ran_short(place):
    done, _ = run(place, Played(dmesg=ended(b"No space left on its disk\n")), lambda _: report())
    assert done.report == report()
    done, _ = run(place, Played(), lambda _: UNVERIFIED)
    assert done.report == UNVERIFIED


def test_one_that_takes_too_long_is_ended(place, monkeypatch):
    monkeypatch.setattr(outside, "time_limit", lambda _: 0.05)
    guest = Played()

    def test(_):
        assert guest.has_ended.wait(60)
        raise HostError("the other end closed the connection", remedy=REMEDY)

    assert lost(place, guest, test) == "did not finish within 0 s"


def test_a_name_without_a_root_is_a_wrong_call(place):
    with pytest.raises(UsageError, match=r"no distribution and no imported root 'ubuntu-24\.40'") as error:
        run(place, Played(), pytest.fail, distro="ubuntu-24.40")
    assert (
        "did you mean ubuntu-24.04? choose one of: debian-12, debian-13, debian-14, ubuntu-24.04"
        in error.value.remedy.title
    )
    assert "guest import" in error.value.remedy.title


PACKAGES = GuestPackages(words=(), inputs={}, seconds=1.0, require=lambda *_: None, contradiction=lambda _: "")


@pytest.mark.parametrize(
    ("changes", "where"),
    [
        ({"target": Target(packages=("redis",))}, "packages"),
        ({"packages": PACKAGES}, "--package"),
    ],
)
def test_what_no_imported_root_can_do_is_a_wrong_call(place, changes, where):
    with pytest.raises(UsageError, match="is an imported root") as error:
        run(place, Played(), pytest.fail, **changes)
    assert error.value.where == where


def test_what_user_mode_linux_cannot_do_is_lost_before_the_boot(place):
    with pytest.raises(
        GuestError, match=r"user-mode-linux has one CPU, and cpus in \[target\] is 4; no service was run"
    ):
        run(place, Played(), pytest.fail, target=Target(machine="uml", cpus=4))


KERNEL = RootImage(
    name="debian-13-fedcba9876543210", root=Path("/k/root.ext4"), kernel=Path("/k/vmlinux"), initrd=Path("/k/initrd")
)


@pytest.fixture
def kernels(place, monkeypatch):
    """The recipes of the kernels that were asked for; this host has QEMU."""
    (place / "bin" / "qemu-system-x86_64").touch(mode=0o755)
    monkeypatch.setattr(outside, "accelerator", lambda _: "tcg")
    asked = []
    monkeypatch.setattr(foreign_kernel.image, "ensure", lambda recipe, *_, **__: asked.append(recipe) or KERNEL)
    return asked


@pytest.mark.parametrize(
    ("target", "backports"),
    [
        (Target(machine="qemu"), ""),
        (Target(cpus=4), ""),
        (Target(kernel="backports"), "trixie-backports"),
    ],
)
def test_qemu_has_the_kernel_of_a_distribution(place, kernels, target, backports):
    done, (spec, image) = run(place, Played(), lambda _: report(), target=target)
    assert (done.machine.engine, done.kernel_image, done.image) == (GuestEngine.QEMU, KERNEL, image.name)
    assert (image.distro, image.kernel, image.initrd, image.kernel_image) == (
        NAME,
        KERNEL.kernel,
        KERNEL.initrd,
        KERNEL,
    )
    assert (spec.engine, spec.cpus, spec.accelerator) == (GuestEngine.QEMU, target.cpus or 2, "tcg")
    assert [(recipe.distro, recipe.with_kernel, recipe.backports) for recipe in kernels] == [
        ("debian-13", True, backports)
    ]


@pytest.mark.parametrize("network", [False, True])
def test_the_network_that_the_config_asks_for(place, kernels, network):
    guest = Played()
    done, (spec, _) = run(
        place, guest, lambda _: report(), target=Target(network=network, machine="auto" if network else "qemu")
    )
    assert (done.machine.engine, spec.network, guest.network) == (GuestEngine.QEMU, network, int(network))


def test_user_mode_linux_has_no_network(place):
    with pytest.raises(GuestError, match=r"user-mode-linux has no network, .*; no service was run"):
        run(place, Played(), pytest.fail, target=Target(machine="uml", network=True))


def test_the_machine_of_an_imported_root_has_the_modules_of_its_kernel(place, kernels):
    _, (spec, image) = run(place, Played(), lambda _: report(), target=Target(machine="qemu"))
    made = machine.qemu_machine(spec, image, "qemu", place / "input")
    assert (made.kernel, made.root, made.modules) == (KERNEL.kernel, image.root, KERNEL.root)
    assert str(KERNEL.root) in machine._fence(spec, image, "qemu", ()).readable
    assert machine.qemu_machine(spec, KERNEL, "qemu", place / "input").modules is None


@pytest.mark.parametrize("engine", ["uml", "qemu"])
def test_a_borrowed_kernel_is_named_and_no_fault_of_the_root(place, kernels, engine):
    """A kernel that is too old says nothing about a distribution that has another one."""
    old = finding("CGP106", Status.FAIL, "kernel")
    done, _ = run(place, Played(), lambda _: report(LIMITS, old), target=Target(machine=engine))
    where, *others = guest_findings(GuestReport(run=done, label="", chosen=True, config_path="shop.toml"))
    assert ("the kernel is that of Debian 13" in where.message) is (engine == "qemu")
    assert where.evidence.get("kernel_image") == (KERNEL.name if engine == "qemu" else None)
    assert [item.status for item in others if item.code == "CGP106"] == [Status.UNVERIFIED]


def test_whether_one_could_run_here(place, monkeypatch):
    environment = {"XDG_CACHE_HOME": str(place)}
    assert require_guest(task(place).config, NAME, environment) is GuestEngine.UML
    with pytest.raises(HostError, match=r"needs qemu-system-x86_64, mmdebstrap"):
        require_guest(replace(task(place).config, target=Target(machine="qemu")), NAME, environment)
    with pytest.raises(UsageError, match="is an imported root"):
        require_guest(replace(task(place).config, target=Target(packages=("redis",))), NAME, environment)
    monkeypatch.setattr(tools, "_SEARCH_PATH", str(place))
    with pytest.raises(HostError, match=r"linux\.uml"):
        require_guest(None, NAME, environment)


@pytest.mark.starts_processes
def test_the_end_of_a_guest_is_the_end_of_its_lines():
    from cgroup_preflight.guest.process import GuestProcess, make_folder

    process = GuestProcess([make_folder()], lambda ends: ("/bin/sleep", "60", *map(str, ends[:0])), environment={})
    try:
        process.begin()
        process.end()
        process.line.settimeout(30)
        assert process.line.recv(1) == b""
        process.end()
    finally:
        process.close()
        process.close()
    assert isinstance(process.line, socket.socket)
