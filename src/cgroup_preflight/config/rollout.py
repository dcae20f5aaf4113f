"""What `[rollout]` says of the judge, of hooks and of a Prometheus server, as frozen data."""

from cgroup_preflight.core.records import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Thresholds:
    """What the judge allows; shares are 0 to 1. `config.rollout_keys` gives the reason of each default."""

    samples_min: int = 3
    periods_min: int = 50
    failures_max: int = 0
    errors_max: int = 4
    throttled_margin: float = 0.05
    pressure_factor: float = 2.0
    pressure_floor: float = 0.1
    memory_stalled_max: float = 0.1
    memory_events_max: float = 1.0
    neighbour_margin: float = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Hook:
    """Commands as argv, empty for none: before and after each step, and after a rollback; `timeout` in seconds."""

    before: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    back: tuple[str, ...] = ()
    timeout: float = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """A PromQL expression and the bound of its value: an operator (`<`, `<=`, `>`, `>=`) and a number."""

    expression: str
    operator: str
    bound: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Prometheus:
    """The address of a server, and what is asked after each window."""

    url: str = ""
    queries: tuple[Query, ...] = ()
