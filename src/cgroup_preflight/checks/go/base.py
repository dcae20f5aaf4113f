"""What a check of a Go program looks at, and what it is: a code, a page, one pure function to findings."""

from collections.abc import Callable, Iterable, Mapping

from cgroup_preflight.checks.page import Page
from cgroup_preflight.config.model import GOMEMLIMIT_RATIO
from cgroup_preflight.core.codes import Code
from cgroup_preflight.core.limits import Chain, Level
from cgroup_preflight.core.records import dataclass, field
from cgroup_preflight.core.report import Finding, Location, Remedy
from cgroup_preflight.golang.modinfo import BuildInfo
from cgroup_preflight.golang.program import Binary
from cgroup_preflight.golang.runtime import RuntimePrediction
from cgroup_preflight.plan.go_settings import LEAST_MEMORY_LIMIT


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What a smoke run measured, in bytes: `live` is the heap after a collection, `other` what the runtime counts
    besides its heap, `address_space` the limit of RLIMIT_AS; None for unknown or none.
    """

    live: int | None = None
    other: int = 0
    address_space: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """One program in its place. `prediction` is None unless it is a readable Go program.

    `machine` is the target's `uname -m`, `cpus` its CPUs; `swap`: whether it has swap, None if unknown.
    `location` is the line of the config that names the program, None where there is no config.
    """

    label: str
    program: Binary
    chain: Chain
    environment: Mapping[str, str]
    cpus: frozenset[int]
    machine: str
    swap: bool | None = None
    location: Location | None = None
    variables_at: Mapping[str, Location] = field(default_factory=dict)
    prediction: RuntimePrediction | None = None
    measured: Measured | None = None

    @property
    def info(self) -> BuildInfo:
        """The build info of a Go program; checks are run on those only that have one, unless they say so."""
        assert self.program.info is not None
        return self.program.info

    @property
    def choice(self) -> RuntimePrediction:
        """What its runtime will choose."""
        assert self.prediction is not None
        return self.prediction

    def line_of(self, level: Level | None, name: str) -> Location | None:
        """The line of a property of a level, or that of the program."""
        return (level.at.get(name) if level is not None else None) or self.location

    def variable_at(self, name: str) -> Location | None:
        """The line that sets a variable, or that of the program."""
        return self.variables_at.get(name) or self.location


@dataclass(frozen=True, slots=True, kw_only=True)
class GoCheck:
    """One check of a program; `run` gives nothing where there is nothing to say.

    `any_program`: it also judges what is no Go program.
    """

    code: Code
    page: Page
    run: Callable[[Subject], Iterable[Finding]]
    any_program: bool = False


def set_memory_limit(bound: int, name: str) -> tuple[Remedy, ...]:
    """The remedy of a GOMEMLIMIT for a limit of `bound` bytes; none where it would do more harm than good."""
    value = int(bound * GOMEMLIMIT_RATIO)
    if value < LEAST_MEMORY_LIMIT:
        return ()
    why = f"{GOMEMLIMIT_RATIO:g} of {name}; the rest is for what Go does not count"
    return (set_variable("GOMEMLIMIT", f"{value >> 20}MiB", why),)


def set_variable(name: str, value: str, why: str = "") -> Remedy:
    """The remedy of a variable, in the config's words and in systemd's."""
    return Remedy(
        title=f'set {name}={value}: Environment = {{ {name} = "{value}" }} in the service\'s table of the config, '
        f"or Environment={name}={value} in its unit",
        why=why,
        docs="https://pkg.go.dev/runtime#hdr-Environment_Variables",
    )
