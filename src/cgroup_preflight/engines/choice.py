"""Which engine can start units here, and why the others cannot: pure, from facts."""

from cgroup_preflight.core.reading import Known, Missing, value_or
from cgroup_preflight.core.records import dataclass
from cgroup_preflight.host.facts import Facts

#: The managers of this host, in order of preference.
ENGINES = ("systemd", "user")
#: The engine that brings its own systemd, in a guest. `auto` takes it when none of ENGINES works.
GUEST = "guest"
#: The states that systemctl reports for a manager that it did not reach, or that is shutting down.
_NO_ANSWER = ("offline", "unknown", "stopping")


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineChoice:
    """The engine taken, None for none; `sudo`: its commands go through `sudo -n`; `reasons` against the others."""

    name: str | None
    sudo: bool = False
    reasons: tuple[tuple[str, str], ...] = ()

    @property
    def why_not(self) -> str:
        """The reasons in one line."""
        return "; ".join(f"{engine}: {reason}" for engine, reason in self.reasons)


def choose_engine(facts: Facts, wanted: str, required: tuple[str, ...]) -> EngineChoice:
    """The first engine of `wanted` (or of all, for `auto` and `guest`) that can give units the required controllers.

    Order: system manager (root or passwordless sudo), then the caller's user manager. This is about the host, so
    the guest is never the answer: the caller uses it where the name is None, or where the user chose it.
    """
    reasons: list[tuple[str, str]] = []
    for engine in (wanted,) if wanted in ENGINES else ENGINES:
        reason = _against_systemd(facts) if engine == "systemd" else _against_user(facts, required)
        if reason is None:
            sudo = engine == "systemd" and value_or(facts.uid, 0) != 0
            return EngineChoice(name=engine, sudo=sudo, reasons=tuple(reasons))
        reasons.append((engine, reason))
    return EngineChoice(name=None, reasons=tuple(reasons))


def controllers_of(facts: Facts, choice: EngineChoice) -> "Known[frozenset[str]] | Missing":
    """The controllers that units of this engine can have."""
    return facts.user_manager.controllers if choice.name == "user" else facts.root_controllers


def does_not_answer(facts: Facts) -> bool:
    """Whether the system manager does not answer, or is shutting down."""
    return value_or(facts.system_state, "unknown") in _NO_ANSWER


def _against_any(facts: Facts) -> str | None:
    if isinstance(facts.cgroup_mount, Missing):
        return f"no cgroup v2 ({facts.cgroup_mount.detail or facts.cgroup_mount})"
    if isinstance(facts.systemd_running, Missing):
        return f"whether systemd is PID 1 is unknown ({facts.systemd_running})"
    if not facts.systemd_running.value:
        return f"systemd is not PID 1 (PID 1 is {value_or(facts.pid1, 'unknown')})"
    return None


def _against_systemd(facts: Facts) -> str | None:
    if (reason := _against_any(facts)) is not None:
        return reason
    if does_not_answer(facts):
        state = facts.system_state
        return f"systemd does not answer ({state if isinstance(state, Missing) else f'its state is {state.value}'})"
    if isinstance(facts.uid, Missing):
        return f"the user id of this job is unknown ({facts.uid})"
    if facts.uid.value != 0 and isinstance(facts.sudo, Missing):
        return f"not root, and whether sudo works is unknown ({facts.sudo})"
    if facts.uid.value != 0 and not value_or(facts.sudo, default=False):
        return "not root, and sudo -n does not work without a password"
    return None


def _against_user(facts: Facts, required: tuple[str, ...]) -> str | None:
    if (reason := _against_any(facts)) is not None:
        return reason
    manager = facts.user_manager
    if isinstance(manager.socket, Missing):
        return f"no user manager ({manager.socket})"
    if isinstance(manager.controllers, Missing):
        return f"the user manager's cgroup cannot be read ({manager.controllers})"
    lacking = [name for name in required if name not in manager.controllers.value]
    if lacking:
        return f"{', '.join(lacking)} not delegated to the user manager ({manager.controllers.source})"
    return None
