"""Transient units that appear while services run: the manager starts what is in them, so it is no child of who asked.

A guest belongs to the run, so there every one of them counts. On a host other programs make such units, too, and systemd
does not record who asked: there a unit is of a service only where systemd-run says so in the output of that service.
"""

import os
import re
from collections.abc import Iterable, Iterator, Mapping

from cgroup_preflight.core.reading import value_or
from cgroup_preflight.core.records import TYPE_CHECKING, dataclass
from cgroup_preflight.core.unit_paths import TRANSIENT
from cgroup_preflight.engines.run_scope import PREFIX

if TYPE_CHECKING:
    from cgroup_preflight.engines.service_run import ServiceRun
    from cgroup_preflight.host.door import Files

_USERS = "/run/user"
_RUN = re.compile(rf"({PREFIX}[0-9a-f]{{12}})-")


@dataclass(frozen=True, slots=True, kw_only=True)
class NewUnit:
    """A transient unit; `folder` has its file, and differs for each manager."""

    name: str
    folder: str

    def holds(self, cgroup: str) -> bool:
        """Whether a cgroup is that of the unit, or below it."""
        parts = cgroup.split("/")
        user = re.match(rf"{_USERS}/(\d+)/", self.folder)
        manager = f"user@{user[1]}.service" if user else ""
        above = parts[: parts.index(self.name)] if self.name in parts else None
        if above is None:
            return False
        return manager in above if manager else not any(part.startswith("user@") for part in above)


class NewUnits:
    """The transient units that did not exist at `begin`; `found` so far. `inside`: the machine belongs to the run."""

    def __init__(self, files: "Files", *, inside: bool) -> None:
        self._files, self._inside = files, inside
        self._own, self._root = frozenset[str](), False
        self._before = frozenset[NewUnit]()
        self.found: set[NewUnit] = set()

    def begin(self, own: Iterable[str], *, root: bool) -> None:
        """`own` are the units of the run. Of the system's manager only services that can be `root` get units."""
        self._own, self._root = frozenset(own), root
        self._before = frozenset(self._listed())

    def look(self) -> None:
        """Notes what is new."""
        self.found.update(unit for unit in self._listed() if unit not in self._before)

    def asked_for(self, said: Mapping[str, str]) -> dict[NewUnit, str]:
        """Those that systemd-run started for a service, with that service; `said` is the output by service."""
        asked: dict[NewUnit, str] = {}
        for unit in self.found:
            words = re.compile(
                rf"^(?:Running|Will run service) as unit: {re.escape(unit.name)}(?:;|\s*$)", re.MULTILINE
            )
            asked.update((unit, service) for service, text in said.items() if words.search(text))
        return asked

    def _listed(self) -> Iterator[NewUnit]:
        """On a host without scopes: what is in one is a child of who made it."""
        kinds = (".service", ".scope") if self._inside else (".service",)
        for folder in self._folders():
            runs: set[str] | None = None
            for name in value_or(self._files.names(folder), ()):
                if name in self._own or not name.endswith(kinds):
                    continue
                if not self._inside and (match := _RUN.match(name)):
                    runs = self._runs(folder) if runs is None else runs
                    if match[1] in runs:
                        continue
                yield NewUnit(name=name, folder=folder)

    def _folders(self) -> Iterator[str]:
        """Of the managers that services can reach: those of this tool's user, for they run as the same one."""
        if self._inside or self._root:
            yield TRANSIENT
        for name in value_or(self._files.names(_USERS), ()):
            folder = f"{_USERS}/{name}/systemd/transient"
            if self._inside or self._files.writable(folder):
                yield folder

    def _runs(self, folder: str) -> set[str]:
        """The runs of this tool that a manager has slices of."""
        beside = os.path.join(os.path.dirname(folder), "system" if folder == TRANSIENT else "user")
        return {
            name.removesuffix(".slice") for name in value_or(self._files.names(beside), ()) if name.startswith(PREFIX)
        }


def can_be_root(run: "ServiceRun") -> bool:
    """Whether the system's manager starts a service as root, or as the caller of sudo, who needs no password."""
    source, own = run.service.source, run.launch.own
    users = [item.text for item in run.service.own_settings if item.property == "User"]
    user = users[-1] if users else source.last("User") if source is not None else ""
    if user:
        return user in ("root", "0")
    return own is None or not own.has_user
