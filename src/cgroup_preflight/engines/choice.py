"""Which engine can start units here, and why the others cannot: pure, from facts."""

from cgroup_preflight.core.reading import Known, Missing, value_or
from cgroup_preflight.core.records import TYPE_CHECKING, dataclass
from cgroup_preflight.host.facts import Facts

if TYPE_CHECKING:
    from cgroup_preflight.host.delegation import Place

#: The service managers of this host, in order of preference.
MANAGERS = ("systemd", "user")
#: The engine that makes cgroups itself, below one that was delegated to this job.
CGROUPFS = "cgroupfs"
#: The engines of this host, in order of preference.
ENGINES = (*MANAGERS, CGROUPFS)
#: The engine that brings its own systemd, in a guest. `auto` takes it when none of ENGINES works.
GUEST = "guest"
#: The states that systemctl reports for a manager that it did not reach, or that is shutting down.
_NO_ANSWER = ("offline", "unknown", "stopping")
_SCOPE = "start the job with systemd-run --user --scope -p Delegate=yes"
_CHOWN = "root gives it with chown to that folder and its files cgroup.procs, cgroup.subtree_control and cgroup.threads"


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineChoice:
    """The engine taken, None for none; `sudo`: its commands go through `sudo -n`; `reasons` against the others.

    `place` is the cgroup below which the engine cgroupfs works. `lacking_at` is the one, for a message, below which it
    would work if that had the required controllers; empty for none.
    """

    name: str | None
    sudo: bool = False
    reasons: tuple[tuple[str, str], ...] = ()
    place: "Place | None" = None
    lacking_at: str = ""

    @property
    def why_not(self) -> str:
        """The reasons in one line."""
        return "; ".join(f"{engine}: {reason}" for engine, reason in self.reasons)


def choose_engine(
    facts: Facts, wanted: str, required: tuple[str, ...], place: "Place | None" = None
) -> EngineChoice:  # fmt: skip
    """The first engine of `wanted` (or of all, for `auto` and `guest`) that can give units the required controllers.

    Order: system manager (root or passwordless sudo), then the caller's user manager, then this tool itself below the
    cgroup of `place` (None: that was not read, and the engine cgroupfs is tried only if it is wanted). This is about the
    host, so the guest is never the answer: the caller uses it where the name is None, or where the user chose it.
    """
    reasons: list[tuple[str, str]] = []
    for engine in (wanted,) if wanted in ENGINES else ENGINES if place is not None else MANAGERS:
        reason = _against(engine, facts, required, place)
        if reason is None:
            sudo = engine == "systemd" and value_or(facts.uid, 0) != 0
            used = place if engine == CGROUPFS else None
            return EngineChoice(name=engine, sudo=sudo, reasons=tuple(reasons), place=used)
        reasons.append((engine, reason))
    tried = dict(reasons).get(CGROUPFS)
    lacks = tried is not None and place is not None and tried == _lacking(required, place)
    return EngineChoice(name=None, reasons=tuple(reasons), lacking_at=(place.path or "/") if place and lacks else "")


def _against(engine: str, facts: Facts, required: tuple[str, ...], place: "Place | None") -> str | None:
    if engine == "systemd":
        return _against_systemd(facts)
    return _against_user(facts, required) if engine == "user" else against_place(facts, required, place)


def controllers_of(facts: Facts, choice: EngineChoice) -> "Known[frozenset[str]] | Missing":
    """The controllers that units of this engine can have."""
    if choice.place is not None:
        return choice.place.level.controllers
    return facts.user_manager.controllers if choice.name == "user" else facts.root_controllers


def does_not_answer(facts: Facts) -> bool:
    """Whether the system manager does not answer, or is shutting down."""
    return value_or(facts.system_state, "unknown") in _NO_ANSWER


def against_place(facts: Facts, required: tuple[str, ...], place: "Place | None") -> str | None:
    """Why the engine cgroupfs cannot work below a cgroup; None where it can."""
    if isinstance(facts.cgroup_mount, Missing):
        return f"no cgroup v2 ({facts.cgroup_mount.detail or facts.cgroup_mount})"
    if place is None:
        return "the cgroup of this job is not below the mount, or was not recorded"
    where, level = place.path or "/", place.level
    if isinstance(level.controllers, Missing):
        return f"{where} cannot be read ({level.controllers})"
    if isinstance(place.marked, Missing):
        return f"whether {place.unit} is delegated is unknown ({place.marked})"
    if not place.marked.value or _is_managers_own(place):
        return f"{where} is managed by systemd and not delegated to this job: {_SCOPE}"
    if place.denied:
        return f"this job may not write to {', '.join(place.denied)} of {where}: {_CHOWN}"
    kind = value_or(level.type, "domain")
    if kind != "domain":
        return f"{where} is a threaded cgroup (its type is {kind!r}), which has no memory controller: name another one"
    if place.unreachable:
        return f"this job may not move a process from its own cgroup to {where}: {place.unreachable} is not its own"
    return _lacking(required, place)


def _lacking(required: tuple[str, ...], place: "Place") -> str | None:
    controllers = place.level.controllers
    lacking = [name for name in required if name not in value_or(controllers, frozenset())]
    return f"{', '.join(lacking)} missing at the level {place.path or '/'} ({controllers.source})" if lacking else None


def _is_managers_own(place: "Place") -> bool:
    """Whether the cgroup is delegated to a user's service manager, which is not this job."""
    return place.unit.startswith("user@") and place.path.endswith(f"/{place.unit}")


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
