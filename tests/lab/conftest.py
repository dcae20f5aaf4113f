"""The lab: tests on real kernels, in guests that are booted once and shared.

A test takes `guest` (a booted Debian with systemd and cgroup v2) and says what else it needs:

    @pytest.mark.requires("psi", "cpus>=4")
    def test_pressure_is_read(guest, preflight): ...

Needs choose the guest: the first kind whose promises hold them all. Nothing is skipped: a need that no kind promises
is an error, and `test_guest.py` proves that every promise is kept. Other kernels: `boot(kernel_args=(...))`.
"""

import contextlib
import json
import os
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import pytest

from cgroup_preflight.core.errors import HostError
from cgroup_preflight.guest import image
from cgroup_preflight.guest.recipe import recipe_for
from cgroup_preflight.guest.session import Guest, input_path
from cgroup_preflight.guest.spec import BootMode, CommandResult, GuestEngine, GuestSpec
from tests.lab.configs import leftovers

_REPOSITORY = Path(__file__).parents[2]
#: Folder of built fixture binaries; `nox -s lab` sets it.
_FIXTURES_VARIABLE = "CGPF_LAB_FIXTURES"


#: The shared guests, by specification.
_RUNNING = pytest.StashKey[dict[str, Guest]]()


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """A kind of guest and the needs it promises to meet."""

    spec: GuestSpec
    promises: frozenset[str]


_V2 = frozenset({"v2", "cpu", "io", "memory", "pids", "systemd", "users"})
#: In the order of preference: the quicker first.
KINDS = (
    Kind(spec=GuestSpec(mode=BootMode.FULL), promises=_V2 | {"cpus==1", "no-psi", "no-cpuset"}),
    Kind(
        spec=GuestSpec(
            engine=GuestEngine.QEMU,
            distro="debian-13",
            mode=BootMode.FULL,
            cpus=4,
            memory_mib=1024,
            boot_timeout=240.0,
        ),
        promises=_V2 | {"psi", "cpuset", "cpus>=2", "cpus>=4"},
    ),
)


def kind_for(needs: frozenset[str]) -> Kind:
    """The first kind that promises all `needs`; raises LookupError, which fails the test."""
    for kind in KINDS:
        if needs <= kind.promises:
            return kind
    raise LookupError(f"no kind of guest promises {', '.join(sorted(needs))}; see KINDS in {__file__}")


class Boot(Protocol):
    """Boots (or returns the already booted) variant of a guest; `base` None means the standard one."""

    def __call__(self, *, kernel_args: tuple[str, ...] = (), base: GuestSpec | None = None) -> Guest: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class PreflightRun:
    """A call of the command inside the guest."""

    completed: CommandResult

    @property
    def exit_status(self) -> int:
        """What the command exited with."""
        return self.completed.returncode

    @property
    def report(self) -> dict[str, Any]:
        """stdout as JSON (asked for with `--format json`); fails with the call's messages if it is none."""
        try:
            parsed: dict[str, Any] = json.loads(self.completed.stdout)
        except ValueError:
            pytest.fail(f"no JSON on stdout: {self.completed}")
        return parsed


class Preflight(Protocol):
    """Runs `cgroup-preflight ARGS` inside a guest; `on` None means the test's own guest."""

    def __call__(
        self,
        *args: str,
        on: Guest | None = None,
        user: str | None = None,
        cwd: str | None = None,
        env: dict[str, str] | None = None,
        timeout: float = 300.0,
    ) -> PreflightRun: ...


class CopyIn(Protocol):
    """Copies a folder inside the guest to where it can be written to, for user `owner`."""

    def __call__(self, source: Path, *, owner: str = "root") -> Path: ...


def pytest_configure(config: pytest.Config) -> None:
    """Registers the marker, for --strict-markers."""
    config.addinivalue_line("markers", "requires(*needs): what the test's guest must offer, see tests/lab/conftest.py")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """What a failed test leaves is removed at once: it must not fail the tests after it. A guest where that fails is ended."""
    report = yield
    if report.failed:
        for guest in item.config.stash.get(_RUNNING, {}).values():
            _clean(guest)
    return report


def _clean(guest: Guest) -> None:
    left = ["it gives no answer"]
    with contextlib.suppress(HostError):
        left = leftovers(guest, "clean") if guest.alive else []
    if left:
        guest.__exit__(None, None, None)


@pytest.fixture(scope="session")
def lab_inputs() -> dict[str, Path]:
    """What goes into every guest, by name below /run/preflight/in; parts not built yet are left out here."""
    inputs = {"src": _REPOSITORY / "src", "shop": _REPOSITORY / "examples" / "shop"}
    if fixtures := os.environ.get(_FIXTURES_VARIABLE):
        inputs["fixtures"] = Path(fixtures)
    return {name: path for name, path in inputs.items() if path.is_dir()}


@pytest.fixture(scope="session")
def boot(pytestconfig: pytest.Config, lab_inputs: dict[str, Path]) -> Iterator[Boot]:
    """Boots guests lazily, one of each specification, and ends them all with the session."""
    folder = image.cache_folder(os.environ)
    running = pytestconfig.stash.setdefault(_RUNNING, {})
    with contextlib.ExitStack() as stack:

        def start(*, kernel_args: tuple[str, ...] = (), base: GuestSpec | None = None) -> Guest:
            spec = replace(base or KINDS[0].spec, kernel_args=kernel_args, inputs=lab_inputs)
            key = repr(spec)
            # A guest that a test has killed must not take all later tests with it.
            if key not in running or not running[key].alive:
                recipe = recipe_for(spec.distro, with_kernel=spec.engine is GuestEngine.QEMU)
                running[key] = stack.enter_context(Guest(spec, image.ensure(recipe, folder)))
            return running[key]

        yield start


@pytest.fixture
def guest(request: pytest.FixtureRequest, boot: Boot) -> Guest:
    """A guest that promises all the needs of the test's `requires` marks; shared, so leave it as it was."""
    needs = frozenset(need for mark in request.node.iter_markers("requires") for need in mark.args)
    return boot(base=kind_for(needs).spec)


@pytest.fixture(scope="session")
def say(request: pytest.FixtureRequest) -> Callable[..., None]:
    """Prints figures at once, past the capture of pytest."""
    capture = request.config.pluginmanager.getplugin("capturemanager")

    def line(*words: object) -> None:
        with capture.global_and_fixture_disabled():
            print("\n   ", *words, end=" ", flush=True)

    return line


@pytest.fixture(scope="session")
def shop(lab_inputs: dict[str, Path]) -> Path:
    """The example inside the guest, with its built binaries in dist/."""
    if not (lab_inputs.get("shop", _REPOSITORY) / "dist").is_dir():
        pytest.fail("examples/shop/dist is not built: run `nox -s lab`, which builds it", pytrace=False)
    return input_path("shop")


@pytest.fixture(scope="session")
def fixtures(lab_inputs: dict[str, Path]) -> Path:
    """The built fixture binaries inside the guest."""
    if "fixtures" not in lab_inputs:
        pytest.fail(f"{_FIXTURES_VARIABLE} names no folder: run `nox -s lab`, which builds the binaries", pytrace=False)
    return input_path("fixtures")


@pytest.fixture
def preflight(request: pytest.FixtureRequest) -> Preflight:
    """Runs the command under test from this checkout inside the guest."""
    environment = {
        "PYTHONPATH": str(input_path("src")),
        # The input is read-only; without a place for bytecode every call would compile everything anew.
        "PYTHONPYCACHEPREFIX": "/tmp/pycache",
    }

    def run(
        *args: str,
        on: Guest | None = None,
        user: str | None = None,
        cwd: str | None = None,
        env: dict[str, str] | None = None,
        timeout: float = 300.0,
    ) -> PreflightRun:
        target: Guest = on or request.getfixturevalue("guest")
        argv = ("python3", "-m", "cgroup_preflight", *args)
        done = target.run(argv, user=user, cwd=cwd, env={**environment, **(env or {})}, timeout=timeout)
        return PreflightRun(completed=done)

    return run


@pytest.fixture
def guest_copy(guest: Guest) -> Iterator[CopyIn]:
    """Copies a folder of the read-only input to a new writable one inside `guest`, removed after the test."""
    made: list[str] = []

    def copy(source: Path, *, owner: str = "root") -> Path:
        folder = guest.run(["mktemp", "--directory"]).text.strip()
        made.append(folder)
        target = Path(folder) / source.name
        for argv in (["cp", "-a", str(source), str(target)], ["chown", "-R", owner, folder]):
            done = guest.run(argv)
            assert done.returncode == 0, done
        return target

    yield copy
    for folder in made:
        guest.run(["rm", "-rf", folder])
