"""The matrix: environments that really exist in a guest, and how a program gets into each.

What `check` must say in each is in tests/hosts/expected.toml; `record_hosts.py` records them for the fast tests.
"""

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Self

from cgroup_preflight.guest import image
from cgroup_preflight.guest.bare import BareGuest
from cgroup_preflight.guest.overlay import OverlayFile
from cgroup_preflight.guest.recipe import Recipe, recipe_for
from cgroup_preflight.guest.run import booted
from cgroup_preflight.guest.session import Guest, input_path
from cgroup_preflight.guest.spec import CommandResult, GuestEngine, GuestSpec
from tests.lab.conftest import KINDS

AnyGuest = Guest | BareGuest


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """What a guest must run, and as whom, for a program to be in an environment."""

    argv: tuple[str, ...]
    user: str | None = None
    env: Mapping[str, str] = field(default_factory=dict)


#: The call for a program and its environment variables.
Inside = Callable[[Sequence[str], Mapping[str, str]], Call]
Enter = Callable[[AnyGuest], AbstractContextManager[Inside]]
#: Runs a command in an environment; the environment variables are those of the command alone.
Run = Callable[[Sequence[str], Mapping[str, str]], CommandResult]

_UML, _QEMU = (kind.spec for kind in KINDS)
_NEW_UML, _NEW_QEMU = (replace(kind, distro="debian-14") for kind in (_UML, _QEMU))
_CONTAINER_PACKAGES = ("podman", "crun", "uidmap", "systemd-container")
#: What runs this tool in a guest without an agent.
PYTHON = ("python3", "python3-packaging")
_TESTER = {"XDG_RUNTIME_DIR": "/run/user/1000"}
_USER_UNIT = "user@1000.service"
#: Environments that the lines of one bare guest are enough for: two for the door to each, and those of commands.
_BARE_MOST = 4
_TIMEOUT = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """One environment: the guest it is in, how to enter it, and the command that starts a unit there.

    `limits_act` is what a unit started there shows: whether memory and cpu limits get into the kernel's files.
    `newest` are those that the lab's ordinary run leaves out. With `old_kernel` user-mode-linux is that of this host: newer
    kernels have no controllers for a v1 hierarchy.
    """

    name: str
    enter: Enter
    limits_act: bool
    spec: GuestSpec = _UML
    kernel_args: tuple[str, ...] = ()
    containers: bool = False
    starter: tuple[str, ...] = ("systemd-run",)
    newest: bool = False
    old_kernel: bool = False

    @contextlib.contextmanager
    def run(self, guest: AnyGuest) -> Iterator[Run]:
        """Runs commands in this environment of `guest`."""
        with self.enter(guest) as inside:
            yield runner(guest, inside)

    @property
    def guest_key(self) -> tuple[object, ...]:
        """Equal for environments that can share a guest."""
        return (self.spec.engine, self.spec.distro, self.kernel_args, self.containers, self.old_kernel)


def runner(guest: AnyGuest, inside: Inside) -> Run:
    """Runs commands where `inside` leads."""

    def run(argv: Sequence[str], env: Mapping[str, str]) -> CommandResult:
        call = inside(argv, env)
        return guest.run(call.argv, user=call.user, env=call.env, timeout=_TIMEOUT)

    return run


class Stage:
    """At most one guest at a time, kept as long as the next environment can live in it; `bare`: without an agent."""

    def __init__(self, inputs: Mapping[str, Path], *, bare: bool = False) -> None:
        self._inputs, self._bare = dict(inputs), bare
        self._key: tuple[object, ...] = ()
        self._stack = contextlib.ExitStack()
        self._guest: AnyGuest | None = None
        self._served = 0

    def __enter__(self) -> Self:
        """Nothing is booted yet."""
        return self

    def __exit__(self, *error: object) -> None:
        """Ends the last guest."""
        self._end()

    def guest(self, environment: Environment) -> AnyGuest:
        """A guest for `environment`, the one that runs or a new one."""
        used_up = self._bare and self._served == _BARE_MOST
        if self._guest is None or self._key != environment.guest_key or not self._guest.alive or used_up:
            self._end()
            spec = replace(environment.spec, kernel_args=environment.kernel_args, inputs=self._inputs)
            root = image.ensure(recipe_of(environment, bare=self._bare), image.cache_folder(os.environ))
            root = replace(root, uml=None) if environment.old_kernel else root
            kind = BareGuest if self._bare else Guest
            self._guest, _ = self._stack.enter_context(booted(lambda: kind(spec, root), lambda _: None, time.monotonic))
            self._key, self._served = environment.guest_key, 0
        self._served += 1
        return self._guest

    def _end(self) -> None:
        self._guest = None
        self._stack.close()


def recipe_of(environment: Environment, *, bare: bool = False) -> Recipe:
    """The root of its guest; with container managers only where they are needed, so that the others build quickly.

    `bare`: without an agent, but with the Python that an agent brings.
    """
    qemu = environment.spec.engine is GuestEngine.QEMU
    recipe = recipe_for(environment.spec.distro, with_kernel=qemu, packages=PYTHON if bare else (), bare=bare)
    if not environment.containers:
        return recipe
    masked = (".service", ".socket", "-restart.service", "-auto-update.service", "-auto-update.timer")
    # No overlay file system in user-mode-linux, and podman looks for one at every boot.
    storage = (
        '[storage]\ndriver = "vfs"\nrunroot = "/run/containers/storage"\ngraphroot = "/var/lib/containers/storage"\n'
    )
    files = (
        OverlayFile(path="/etc/containers/storage.conf", content=storage),
        *(OverlayFile(path=f"/etc/systemd/system/podman{name}", link="/dev/null") for name in masked),
    )
    return replace(recipe, packages=(*recipe.packages, *_CONTAINER_PACKAGES), files=(*recipe.files, *files))


def command_environment() -> dict[str, str]:
    """How `python3 -m cgroup_preflight` finds this checkout in a guest, and keeps its bytecode there."""
    return {"PYTHONPATH": str(input_path("src")), "PYTHONPYCACHEPREFIX": "/tmp/pycache"}


def _shell(guest: AnyGuest, script: str, *words: str) -> None:
    done = guest.run(["sh", "-euc", script, "sh", *words], timeout=_TIMEOUT)
    assert done.returncode == 0, done


def _given(env: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(f"--setenv={name}={value}" for name, value in env.items())


def wrapped(*words: str, user: str | None = None) -> Enter:
    """The command behind `words`, as `user`."""

    @contextlib.contextmanager
    def enter(_: AnyGuest) -> Iterator[Inside]:
        extra = _TESTER if user == "tester" else {}
        yield lambda argv, env: Call(argv=(*words, *argv), user=user, env={**env, **extra})

    return enter


def after(script: str, undo: str, inner: Enter) -> Enter:
    """`inner` between two shell scripts of root."""

    @contextlib.contextmanager
    def enter(guest: AnyGuest) -> Iterator[Inside]:
        _shell(guest, script)
        try:
            with inner(guest) as inside:
                yield inside
        finally:
            _shell(guest, undo)

    return enter


#: Mounts before the command and undoes it after, in one process: the guest's agent itself needs a writable tree.
#: It is busy while anybody writes to one of its files.
_AROUND = (
    'o=$1; u=$2; shift 2; n=0; until mount -o "$o" /sys/fs/cgroup; do n=$((n+1)); [ $n -lt 50 ]; sleep 0.1; done;'
    ' set +e; "$@"; r=$?; mount -o "$u" /sys/fs/cgroup; exit $r'
)
_MANAGER = f"loginctl enable-linger tester; systemctl restart {_USER_UNIT}"
_DELEGATE = "/etc/systemd/system/user@.service.d/10-matrix.conf"
_RESTART = f"systemctl daemon-reload; systemctl restart {_USER_UNIT}"
#: A root for containers: nothing in it but what is mounted into it.
ROOT_OF_CONTAINER = (
    'mkdir -p "$1"; cd "$1"; mkdir -p usr/lib proc sys dev run tmp root var/lib; cp -a /etc etc;'
    " cp /usr/lib/os-release usr/lib/; rm -f etc/systemd/system/multi-user.target.wants/preflight-agent.service;"
    ' for name in bin lib lib64 sbin; do ln -sfn "usr/$name" "$name"; done; chown -R "$2" "$1"'
)


def podman(*options: str, user: str | None = None) -> Enter:
    """A container without systemd, of the guest's own files; rootless with `user`."""

    @contextlib.contextmanager
    def enter(guest: AnyGuest) -> Iterator[Inside]:
        folder = f"/srv/{user or 'root'}"
        _shell(guest, f'[ -d "$1" ] || {{ {ROOT_OF_CONTAINER}; }}', folder, user or "root")
        if user:
            _shell(guest, f"loginctl enable-linger {user}; systemctl start {_USER_UNIT}")
        words = ["podman", "run", "--rm", "--interactive", "--network=none", "--volume=/usr:/usr:ro", *options]
        words.append(f"--volume={input_path('')}:{input_path('')}:ro")

        def inside(argv: Sequence[str], env: Mapping[str, str]) -> Call:
            # No place for bytecode in there, and none needed.
            inner = [f"--env={name}={value}" for name, value in env.items() if name == "PYTHONPATH"]
            return Call(argv=(*words, *inner, "--rootfs", folder, *argv), user=user, env=_TESTER if user else {})

        yield inside

    return enter


def nspawn(*, unified: bool, payload: str = "") -> Enter:
    """systemd-nspawn with systemd as PID 1; `payload` is a script with the container's cgroup as $1."""

    @contextlib.contextmanager
    def enter(guest: AnyGuest) -> Iterator[Inside]:
        _shell(guest, ROOT_OF_CONTAINER, "/srv/box", "root")
        machine = "--machine=box"
        words = ["systemd-nspawn", "--quiet", machine, "--boot", "--directory=/srv/box", "--bind-ro=/usr"]
        env = {"SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1"} if unified else {}
        box = guest.spawn([*words, f"--bind-ro={input_path('')}"], env=env)
        # Collected: a check that fails must not leave the container degraded.
        start = ["systemd-run", machine, "--wait", "--pipe", "--quiet", "--collect"]
        try:
            deadline = time.monotonic() + _TIMEOUT
            while not guest.run([*start, "systemctl", "is-system-running", "--wait"], timeout=_TIMEOUT).text:
                assert time.monotonic() < deadline, "the container does not come up"
                time.sleep(0.5)
            if payload:
                _shell(guest, payload, "/sys/fs/cgroup/machine.slice/machine-box.scope/payload")

            yield lambda argv, env: Call(argv=(*start, *_given(env), *argv))
        finally:
            guest.run(["machinectl", "terminate", "box"])
            guest.wait(box, timeout=30)
            guest.run(["rm", "-rf", "/srv/box"])

    return enter


def service(*properties: str) -> Enter:
    """The command as a service of the system manager with `properties`, as a CI runner's job is."""

    @contextlib.contextmanager
    def enter(_: AnyGuest) -> Iterator[Inside]:
        words = (
            "systemd-run",
            "--wait",
            "--pipe",
            "--quiet",
            "--collect",
            *(f"--property={item}" for item in properties),
        )
        yield lambda argv, env: Call(argv=(*words, *_given(env), *argv))

    return enter


_AS_TESTER = wrapped(user="tester")
_USER_RUN = ("systemd-run", "--user")
_HYBRID = ("systemd.unified_cgroup_hierarchy=0",)
_IN_M = (
    "mkdir -p /sys/fs/cgroup/m/job; echo '+memory +pids' > /sys/fs/cgroup/m/cgroup.subtree_control;"
    ' echo $$ > /sys/fs/cgroup/m/job/cgroup.procs; exec "$@"'
)

#: Ordered so that those which share a guest follow each other; each leaves its guest as it found it.
ENVIRONMENTS: tuple[Environment, ...] = (
    Environment(name="debian-12", enter=wrapped(), limits_act=True),
    Environment(name="debian-12-sudo", enter=wrapped(user="runner"), limits_act=True,
                starter=("sudo", "-n", "systemd-run")),
    Environment(name="debian-12-user-no-manager", enter=_AS_TESTER, limits_act=False, starter=_USER_RUN),
    Environment(name="debian-12-user-delegated", enter=after(_MANAGER, ":", _AS_TESTER), limits_act=True,
                starter=_USER_RUN),
    Environment(
        name="debian-12-user-without-cpu", limits_act=False, starter=_USER_RUN,
        enter=after(
            f"{_MANAGER}; mkdir -p {_DELEGATE.rpartition('/')[0]};"
            f" printf '[Service]\\nDelegate=\\nDelegate=memory pids\\n' > {_DELEGATE}; {_RESTART}",
            f"rm {_DELEGATE}; {_RESTART}", _AS_TESTER),
    ),
    Environment(
        name="debian-12-user-slice-without-cpu", limits_act=False, starter=_USER_RUN,
        enter=after(f"{_MANAGER}; systemctl set-property --runtime user.slice DisableControllers=cpu;"
                    f" systemctl restart {_USER_UNIT}",
                    f"systemctl revert user.slice; systemctl restart {_USER_UNIT}", _AS_TESTER),
    ),
    Environment(
        name="debian-12-user-slice-capped", limits_act=True, starter=_USER_RUN,
        enter=after(f"{_MANAGER}; systemctl set-property --runtime user-1000.slice MemoryMax=80M",
                    "systemctl revert user-1000.slice", _AS_TESTER),
    ),
    Environment(
        name="debian-12-root-slice-without-cpu", limits_act=False,
        enter=after("systemctl set-property --runtime -- -.slice DisableControllers=cpu",
                    "systemctl revert -- -.slice", wrapped()),
    ),
    Environment(name="debian-12-parent-without-cpu", enter=wrapped("sh", "-euc", _IN_M, "sh"), limits_act=True),
    Environment(name="debian-12-job-capped", enter=service("MemoryMax=64M", "CPUQuota=30%", "TasksMax=40"),
                limits_act=True),
    Environment(name="debian-12-job-sees-read-only", enter=service("ProtectControlGroups=yes"), limits_act=True),
    Environment(name="debian-12-read-only-mount", limits_act=False,
                enter=wrapped("sh", "-euc", _AROUND, "sh", "remount,bind,ro", "remount,bind,rw")),
    Environment(name="debian-12-read-only", limits_act=False,
                enter=wrapped("sh", "-euc", _AROUND, "sh", "remount,ro", "remount,rw")),
    Environment(name="podman-rootful", enter=podman(), limits_act=False, containers=True),
    Environment(name="podman-rootless", enter=podman(user="tester"), limits_act=False, containers=True),
    Environment(name="podman-with-host-folder", enter=podman("--volume=/run/systemd:/run/systemd"), limits_act=False,
                containers=True),
    Environment(name="nspawn", enter=nspawn(unified=True), limits_act=True, containers=True),
    Environment(name="nspawn-capped", enter=nspawn(unified=True, payload='echo 80M > "$1/memory.max"'), limits_act=True,
                containers=True),
    Environment(name="nspawn-legacy", enter=nspawn(unified=False), limits_act=False, containers=True),
    # Last in its guest: such a container takes the host's mount options away.
    Environment(name="podman-host-namespace", enter=podman("--cgroupns=host"), limits_act=False, containers=True),
    Environment(name="debian-12-memory-off", enter=wrapped(), limits_act=False, kernel_args=("cgroup_disable=memory",)),
    Environment(name="debian-12-cpu-off", enter=wrapped(), limits_act=False, kernel_args=("cgroup_disable=cpu",)),
    Environment(name="debian-12-hybrid", enter=wrapped(), limits_act=False, kernel_args=_HYBRID, old_kernel=True),
    Environment(name="debian-12-legacy", enter=wrapped(), limits_act=False, old_kernel=True,
                kernel_args=(*_HYBRID, "systemd.legacy_systemd_cgroup_controller=1")),
    Environment(name="debian-13", enter=wrapped(), limits_act=True, spec=_QEMU),
    Environment(name="debian-13-user-delegated", enter=after(_MANAGER, ":", _AS_TESTER), limits_act=True, spec=_QEMU,
                starter=_USER_RUN),
    Environment(name="debian-13-psi-off", enter=wrapped(), limits_act=True, spec=_QEMU, kernel_args=("psi=0",), newest=True),
    Environment(name="debian-12-qemu", enter=wrapped(), limits_act=True, spec=replace(_QEMU, distro="debian-12"), newest=True),
    Environment(name="debian-13-uml", enter=wrapped(), limits_act=True, spec=replace(_UML, distro="debian-13"), newest=True),
    Environment(name="debian-14", enter=wrapped(), limits_act=True, spec=_NEW_UML),
    Environment(name="debian-14-sudo", enter=wrapped(user="runner"), limits_act=True, spec=_NEW_UML, newest=True,
                starter=("sudo", "-n", "systemd-run")),
    Environment(name="debian-14-user-no-manager", enter=_AS_TESTER, limits_act=False, spec=_NEW_UML, newest=True,
                starter=_USER_RUN),
    Environment(name="debian-14-user-delegated", enter=after(_MANAGER, ":", _AS_TESTER), limits_act=True, spec=_NEW_UML,
                starter=_USER_RUN, newest=True),
    Environment(name="debian-14-job-capped", enter=service("MemoryMax=64M", "CPUQuota=30%", "TasksMax=40"), limits_act=True,
                spec=_NEW_UML, newest=True),
    Environment(name="debian-14-root-slice-without-cpu", limits_act=False, spec=_NEW_UML, newest=True,
                enter=after("systemctl set-property --runtime -- -.slice DisableControllers=cpu",
                            "systemctl revert -- -.slice", wrapped())),
    Environment(name="debian-14-memory-off", enter=wrapped(), limits_act=False, spec=_NEW_UML, newest=True,
                kernel_args=("cgroup_disable=memory",)),
    # These words boot a v1 hierarchy up to systemd 257; from 258 on they do nothing.
    Environment(name="debian-14-words-for-v1", enter=wrapped(), limits_act=True, spec=_NEW_UML, newest=True,
                kernel_args=(*_HYBRID, "systemd.legacy_systemd_cgroup_controller=1")),
    Environment(name="debian-14-qemu", enter=wrapped(), limits_act=True, spec=_NEW_QEMU, newest=True),
    Environment(name="debian-14-qemu-user-delegated", enter=after(_MANAGER, ":", _AS_TESTER), limits_act=True,
                spec=_NEW_QEMU, starter=_USER_RUN, newest=True),
)  # fmt: skip
