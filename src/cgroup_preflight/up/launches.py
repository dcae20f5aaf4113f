"""A service of a plan as the launch of `up`, and the folder of its log."""

import os
from collections.abc import Iterable

from cgroup_preflight.config.model import Config, ReadyKind
from cgroup_preflight.core.errors import UsageError
from cgroup_preflight.core.records import dataclass
from cgroup_preflight.core.report import Remedy
from cgroup_preflight.engines.base import Launch
from cgroup_preflight.host.state import log_folder
from cgroup_preflight.plan.model import ServicePlan
from cgroup_preflight.plan.unit_syntax import setting_pairs

#: systemd ends what this tool left behind after so long: a week, in whole seconds that `g` writes without an exponent.
_WEEK = 604800.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """Who the programs run as, where that is not who asks: uid and gid."""

    uid: int
    gid: int


def new_logs(project: str, names: Iterable[str]) -> dict[str, str]:
    """Empty logs for services, by name. Raises UsageError."""
    folder = log_folder(project)
    return {name: _new_log(folder, name) for name in names}


def _new_log(folder: str, name: str) -> str:
    """An empty log for a service; the one before it gets the end .1. Raises UsageError."""
    path = os.path.join(folder, f"{name}.log")
    try:
        os.makedirs(folder, mode=0o700, exist_ok=True)
        if os.path.exists(path):
            os.replace(path, f"{path}.1")
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600))
    except OSError as error:
        raise UsageError(f"cannot write the log: {error.strerror}", where=path,
                         remedy=Remedy(title="set XDG_STATE_HOME to a folder that can be written")) from None  # fmt: skip
    return path


def launch_of(
    service: ServicePlan, config: Config, variables: dict[str, str], output: str, owner: Owner | None
) -> Launch:
    """The launch of a service; `variables` are those of .env, which the config's own win over."""
    return Launch(
        unit=service.unit, slice=service.slices[-1], description=f"cgroup-preflight up: {config.project} {service.label}",
        command=(service.binary, *service.smoke.args), settings=setting_pairs(service.settings),
        env=tuple((variables | dict(service.smoke.env)).items()), folder=config.folder,
        uid=owner.uid if owner else None, gid=owner.gid if owner else None,
        start_timeout=max(service.smoke.start_timeout, 30.0), stop_timeout=service.smoke.stop_timeout,
        # The gate after the end keeps the cgroup, so that the cause can be read.
        runtime_max=_WEEK, hold_before=0.0, hold_after=_WEEK, output=output, type=_type(service),
    )  # fmt: skip


def _type(service: ServicePlan) -> str:
    own = {item.property: item.text for item in service.own_settings}.get("Type")
    return own or ("notify" if service.smoke.ready.kind is ReadyKind.NOTIFY else "exec")
