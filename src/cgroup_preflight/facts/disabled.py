"""Controllers that systemd keeps out of a slice (`DisableControllers=`, systemd.resource-control(5))."""

from cgroup_preflight.facts.unit_show import parse_unit_show
from cgroup_preflight.facts.words import parse_words
from cgroup_preflight.host.command import CommandRunner
from cgroup_preflight.host.fs import HostFs
from cgroup_preflight.reading import Known, Missing, Reading, Why, parsed

#: Where units of services without a slice, and those of slices of their own, hang.
SLICES = ("-.slice", "system.slice")
#: systemd.unit(5), the search path of the system manager; the last is what `set-property` writes.
_FOLDERS = (
    "/etc/systemd/system", "/run/systemd/system", "/usr/local/lib/systemd/system", "/usr/lib/systemd/system",
    "/lib/systemd/system", "/run/systemd/system.control", "/etc/systemd/system.control",
)  # fmt: skip


def disabled_controllers(fs: HostFs, runner: CommandRunner, *, running: bool) -> "Reading[dict[str, frozenset[str]]]":
    """What is kept out of each of SLICES. Neither has a file of its own as a rule: only then systemd is asked."""
    if not running:
        return Missing(source="DisableControllers", why=Why.ABSENT, detail="systemd does not run")
    # `slice.d` is for all slices; `-.slice`, `-.slice.d` and so on for one.
    listed = [fs.names(folder, (*SLICES, "slice.d")) for folder in _FOLDERS]
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
