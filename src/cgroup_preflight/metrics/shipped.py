"""The files that come with the exporter: alert rules, a dashboard, and a unit for the exporter itself."""

import os
from importlib import resources

from cgroup_preflight.core.errors import UsageError
from cgroup_preflight.core.report import Remedy
from cgroup_preflight.host.files import write_file

_NAMES = ("dashboard.json", "cgroup-preflight-exporter.service")


def write_shipped(folder: str) -> list[str]:
    """Writes them into `folder`, which is created if it does not exist; their paths. Raises UsageError."""
    source = resources.files("cgroup_preflight.metrics") / "rules"
    names = [item.name for item in source.iterdir()] if source.is_dir() else []
    wanted = sorted(name for name in names if name.endswith(".yml") or name in _NAMES)
    if not wanted:
        raise UsageError("the rules and the dashboard are not in this installation", where="--write-rules",
                         remedy=Remedy(title="install cgroup-preflight again"))  # fmt: skip
    try:
        os.makedirs(folder, exist_ok=True)
    except OSError as error:
        raise UsageError(f"cannot create the folder: {error.strerror}", where=folder,
                         remedy=Remedy(title="choose another folder")) from None  # fmt: skip
    for name in wanted:
        write_file(os.path.join(folder, name), (source / name).read_bytes())
    return [os.path.join(folder, name) for name in wanted]
