"""Where `run` would start the services, in words, from the functions with which `run` itself chooses."""

import os

from cgroup_preflight.checks.base import Context
from cgroup_preflight.cli.guest_run import choose_guests
from cgroup_preflight.core.errors import HostError, UsageError
from cgroup_preflight.core.records import TYPE_CHECKING
from cgroup_preflight.engines.choice import GUEST, EngineChoice

if TYPE_CHECKING:
    from cgroup_preflight.config.model import Config

_MANAGERS = {
    "systemd": "start the services on this host, as root with the system manager",
    "sudo": "start the services on this host with the system manager, through sudo -n; programs run as you",
    "user": "start the services on this host with your user manager",
}


def where_run_starts(config: "Config | None", context: Context) -> str:
    """One paragraph: where the services would run, why, and what is missing for it."""
    wanted = config.engine if config is not None else "auto"
    try:
        guests = choose_guests((), wanted, config, context)
    except UsageError as error:
        return f"`cgroup-preflight run` would start no service: {error}; {error.remedy.title}."
    if guests is None:
        return f"`cgroup-preflight run` would {_here(context.engine, wanted)}."
    from cgroup_preflight.guest.available import require_guest

    why = _why_guest(wanted, context.engine, fallback=guests.fallback)
    where = f"start the services in a guest, a VM with {', '.join(guests.distros)}, because {why}"
    try:
        for distro in guests.distros:
            require_guest(config, distro, os.environ)
    except (HostError, UsageError, OSError) as error:
        return f"`cgroup-preflight run` would {where}; but the guest cannot start here: {error}."
    return f"`cgroup-preflight run` would {where}."


def _here(choice: EngineChoice, wanted: str) -> str:
    if choice.name is None:
        return f"start no service: the config has the engine {wanted}, which does not work here ({choice.why_not})"
    if choice.place is not None:
        return f"start the services on this host, in cgroups that it makes below {choice.place.path or '/'}"
    return _MANAGERS["sudo" if choice.sudo else choice.name]


def _why_guest(wanted: str, choice: EngineChoice, *, fallback: bool) -> str:
    if fallback:
        reasons: dict[str, list[str]] = {}
        for engine, reason in choice.reasons:
            reasons.setdefault(reason, []).append(engine)
        # One reason is mostly that of all engines.
        return "no engine works here: " + "; ".join(
            f"{', '.join(names)}: {reason}" for reason, names in reasons.items()
        )
    return "the config has the engine guest" if wanted == GUEST else "the config has a distro or packages in [target]"
