"""The files that ship with the exporter: rules and their tests for Prometheus, a dashboard for Grafana, systemd units."""

import os

from cgroup_preflight.core.errors import UsageError
from cgroup_preflight.core.report import Remedy
from cgroup_preflight.host.files import open_regular, write_file

_FOLDER = os.path.join(os.path.dirname(__file__), "rules")
#: In the order in which they are written.
NAMES = (
    "slices.rules.yml",
    "slices.rules.test.yml",
    "slices.dashboard.json",
    "cgroup-preflight-exporter.service",
    "sliceexporter.slice",
)


def shipped(name: str) -> bytes:
    """The content of one of NAMES, as it is in the package. Raises OSError."""
    with open_regular(os.path.join(_FOLDER, name), follow=True) as file:
        return file.read()


def write_rules(folder: str, *, force: bool) -> tuple[str, ...]:
    """Writes all files into `folder`, which is made if it does not exist; the paths of those that were written.

    A file with the same content is left alone. If others differ, none is written without `force`, because a user may
    have changed them. Raises UsageError.
    """
    changed = []
    wanted = []
    for name in NAMES:
        path, data = os.path.join(folder, name), shipped(name)
        present = _present(path, limit=len(data) + 1)
        if present != data:
            wanted.append((path, data))
            if present is not None:
                changed.append(path)
    if changed and not force:
        raise UsageError(
            f"not written: {', '.join(changed)} would be overwritten",
            remedy=Remedy(title="choose another folder, or overwrite what was changed there with --force"),
        )
    try:
        os.makedirs(folder, exist_ok=True)
    except OSError as error:
        raise UsageError(
            f"cannot make the folder: {error.strerror or error}", where=folder,
            remedy=Remedy(title="choose another folder"),
        ) from None  # fmt: skip
    for path, data in wanted:
        write_file(path, data)
    return tuple(path for path, _ in wanted)


def _present(path: str, *, limit: int) -> bytes | None:
    """The first `limit` bytes of a file; empty for anything else at `path`, None if nothing is at `path`."""
    try:
        with open_regular(path, follow=False) as file:
            return file.read(limit)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError:
        return b""
