"""Controllers that systemd keeps out of a slice (`DisableControllers=`, systemd.resource-control(5))."""

from cgroup_preflight.core.reading import Known, Missing, Reading, Why, parsed
from cgroup_preflight.core.records import TYPE_CHECKING
from cgroup_preflight.facts.unit_show import parse_unit_show
from cgroup_preflight.facts.words import parse_words
from cgroup_preflight.host.fs import HostFs

if TYPE_CHECKING:
    from cgroup_preflight.host.command import CommandRunner

#: Above units with a slice of their own, units without, and those of user managers.
SLICES = ("-.slice", "system.slice", "user.slice")
#: The first two have no file of their own; `slice.d` is for all slices.
_FILES = ("-.slice", "system.slice", "user.slice.d", "slice.d")
#: systemd.unit(5), the search path of the system manager; the last is what `set-property` writes.
_FOLDERS = (
    "/etc/systemd/system", "/run/systemd/system", "/usr/local/lib/systemd/system", "/usr/lib/systemd/system",
    "/lib/systemd/system", "/run/systemd/system.control", "/etc/systemd/system.control",
)  # fmt: skip


def disabled_controllers(fs: HostFs, runner: "CommandRunner", *, running: bool) -> "Reading[dict[str, frozenset[str]]]":
    """What is kept out of each of SLICES. Only where a file could say something, systemd is asked."""
    if not running:
        return Missing(source="DisableControllers", why=Why.ABSENT, detail="systemd does not run")
    listed = [fs.names(folder, _FILES) for folder in _FOLDERS]
    for names in listed:
        if isinstance(names, Missing) and names.why is not Why.ABSENT:
            return names
    if not any(isinstance(names, Known) and names.value for names in listed):
        return Known(value={}, source=_FOLDERS[0])
    answer = runner.run(("systemctl", "show", "--property=Id,DisableControllers", "--", *SLICES))
    return parsed(answer, lambda done: _by_slice(done.stdout))


def _by_slice(text: str) -> dict[str, frozenset[str]]:
    found = {unit.get("Id", ""): parse_words(unit["DisableControllers"])
             for unit in parse_unit_show(text) if "DisableControllers" in unit}  # fmt: skip
    if set(found) != set(SLICES):
        raise ValueError("not an answer about each of the slices")
    return found
