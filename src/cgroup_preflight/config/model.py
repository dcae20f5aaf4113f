"""The config as frozen data."""

import enum

from cgroup_preflight.config import DEFAULT_CONTROLLERS
from cgroup_preflight.config.properties import Value
from cgroup_preflight.config.rollout import Hook, Prometheus, Thresholds
from cgroup_preflight.core.policy import Rules
from cgroup_preflight.core.records import TYPE_CHECKING, dataclass
from cgroup_preflight.core.report import Location

if TYPE_CHECKING:
    from cgroup_preflight.config.unit_source import UnitSource
    from cgroup_preflight.core.quantities import Size

CONTROLLERS = ("cpu", "memory", "io", "pids", "cpuset")


class ReadyKind(enum.StrEnum):
    """How a service shows that it is ready. STARTED: the start of its program is enough; NOTIFY: systemd learns of it.

    That is by sd_notify(3), or for a unit of the project also by forking or by its name on the bus.
    """

    HTTP = "http"
    TCP = "tcp"
    UNIX = "unix"
    GRPC = "grpc"
    LOG = "log"
    NOTIFY = "notify"
    EXIT = "exit"
    STARTED = "started"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadyTest:
    """`target` is the URL, `host:port`, path of a socket (`@name`: an abstract one) or regular expression; empty for the others.

    `ca` is the absolute path of the file with the certificates that an https URL is checked against, empty for those of
    the system.
    """

    kind: ReadyKind
    target: str = ""
    ca: str = ""

    @property
    def url(self) -> str:
        """The target of an HTTP, TCP or gRPC test as a URL."""
        return f"tcp://{self.target}" if self.kind is ReadyKind.TCP else self.target

    @property
    def is_https(self) -> bool:
        """Whether it asks through TLS."""
        return self.kind is ReadyKind.HTTP and self.target.startswith("https:")


#: The kinds whose target has a host and a port.
WITH_PORT = (ReadyKind.HTTP, ReadyKind.TCP, ReadyKind.GRPC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One property as the config gives it: `text` in systemd's spelling, `value` parsed."""

    property: str
    text: str
    value: Value
    location: Location


@dataclass(frozen=True, slots=True, kw_only=True)
class Slice:
    """A slice by its config name, without `.slice`; dashes nest."""

    name: str
    settings: tuple[Setting, ...]
    location: Location


@dataclass(frozen=True, slots=True, kw_only=True)
class Smoke:
    """How one service is tested; spans are in seconds, the program gets `args` and `env` as they are.

    `ready_ca` is the file of `ready.ca`, relative to the folder of the config.
    """

    args: tuple[str, ...] = ()
    env: tuple[tuple[str, str], ...] = ()
    ready: ReadyTest = ReadyTest(kind=ReadyKind.STARTED)
    ready_ca: str = ""
    duration: float = 5.0
    start_timeout: float = 30.0
    stop_timeout: float = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What a run warns of, as shares: less memory left than `headroom_min`, more throttled periods than `throttled_max`."""

    headroom_min: float = 0.2
    throttled_max: float = 0.25


#: The default of automemlimit, too: the rest is for memory that the Go runtime does not count.
GOMEMLIMIT_RATIO = 0.9


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """A service: `binary` is relative to the folder of the config, `slice` is a declared slice or None.

    `unit` is the file of its own unit, also relative, `instance` that of a template, and `source` what the file says.
    With a unit, `binary` may be empty: then the program is the one that the unit names. A unit without a slash is one
    that the machine has installed: its `source` is known where the service runs (`config.installed_units`). `package` is
    the built package that the service is installed from, `previous` the one before it; `unit` then names a unit in it.

    `build` is the command that builds the program, `build_folder` (relative) where it runs.

    `environment` is for its drop-in and for its smoke run, where `smoke.env` overrides it; `variables_at` has the line
    of each variable of both, in that order. `go_settings`: whether a Go program gets settings that fit its limits.
    """

    name: str
    binary: str
    slice: str | None
    settings: tuple[Setting, ...]
    smoke: Smoke
    location: Location
    ready_location: Location
    environment: tuple[tuple[str, str], ...] = ()
    variables_at: tuple[tuple[str, Location], ...] = ()
    unit: str = ""
    instance: str = ""
    package: str = ""
    previous: str = ""
    build: tuple[str, ...] = ()
    build_folder: str = "."
    source: "UnitSource | None" = None
    unit_location: Location | None = None
    go_settings: bool = True
    gomemlimit_ratio: float = GOMEMLIMIT_RATIO
    policy: Policy = Policy()

    @property
    def is_installed(self) -> bool:
        """Whether `unit` is the name of a unit that the machine has installed."""
        return bool(self.unit) and "/" not in self.unit and not self.package


@dataclass(frozen=True, slots=True, kw_only=True)
class Require:
    """What hosts must offer; `systemd` and `kernel` are `packaging` version specifiers or empty.

    `limits` are the properties that each service must have, itself or by a slice above it.
    """

    controllers: tuple[str, ...] = DEFAULT_CONTROLLERS
    limits: tuple[str, ...] = ()
    systemd: str = ""
    kernel: str = ""
    location: Location | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """The guest in which the services are tested: see `[target]` in `keys.SECTIONS`; `distro` is empty without one.

    `kernel` is "backports" for a newer one than the distribution's. `cpus` is 0 and `memory` None where the limits decide. `files_location` is the line of `files`, and so on.
    `install_timeout` is in seconds.
    """

    distro: str = ""
    machine: str = "auto"
    kernel: str = ""
    files: tuple[str, ...] = ()
    paths: tuple[tuple[str, str], ...] = ()
    network: bool = False
    packages: tuple[str, ...] = ()
    memory: "Size | None" = None
    cpus: int = 0
    install_timeout: float = 120.0
    files_location: Location | None = None
    packages_location: Location | None = None


#: The one folder at the top of an archive, if it has one with a program or unit of the plan in it.
AUTO_PREFIX = "auto"


@dataclass(frozen=True, slots=True, kw_only=True)
class Artifacts:
    """What goes into which artifacts: see `[artifacts]` in `keys.SECTIONS`."""

    layout: str = "system"
    prefix: str = AUTO_PREFIX
    services: str = "present"
    service_units: bool = False
    user: str = ""
    rewrite_checksums: bool = False


#: The whole way from the old values to the new ones, in hundredths of a percent.
WHOLE = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollout:
    """How limits change on running hosts. Spans are in seconds, `steps` in hundredths of a percent of the way.

    `slices` are the targets; without them, those of the plan are. `order` names slices that go one after another, and
    `control` slices that are compared with and never changed.
    """

    steps: tuple[int, ...] = (500, 2500, 5000, WHOLE)
    interval: float = 30.0
    settle: float = 10.0
    soak: float = 300.0
    deadline: float = 600.0
    restore_after: float = 60.0
    memory_margin: float = 0.05
    order: tuple[str, ...] = ()
    control: tuple[str, ...] = ()
    slices: tuple[Slice, ...] = ()
    thresholds: Thresholds = Thresholds()
    hook: Hook = Hook()
    prometheus: Prometheus = Prometheus()
    location: Location | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """The whole file; `path` is as the user named it, `folder` is the absolute folder of the file.

    `outside` are more folders that its paths may lead into, without links: never from the file itself.
    """

    path: str
    folder: str
    project: str
    require: Require
    slices: tuple[Slice, ...]
    services: tuple[Service, ...]
    engine: str = "auto"
    inject: tuple[str, ...] = ()
    inject_location: Location | None = None
    allow_tiny_limits: bool = False
    artifacts: Artifacts = Artifacts()
    target: Target = Target()
    policy: Policy = Policy()
    rules: Rules = Rules()
    outside: tuple[str, ...] = ()
    #: None where the file has no `[rollout]`.
    rollout: Rollout | None = None

    @property
    def settings(self) -> tuple[Setting, ...]:
        """Every setting, those of slices first."""
        groups = [*(item.settings for item in self.slices), *(item.settings for item in self.services)]
        return tuple(setting for settings in groups for setting in settings)
