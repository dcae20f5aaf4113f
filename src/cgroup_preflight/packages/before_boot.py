"""What is wrong with packages and the system that they go to, named before it boots. Pure."""

from cgroup_preflight.config.model import Config
from cgroup_preflight.core.errors import UsageError
from cgroup_preflight.core.report import Remedy
from cgroup_preflight.guest.spec import GuestError
from cgroup_preflight.packages.control import installed, paragraphs
from cgroup_preflight.packages.dependencies import conflicts, unmet
from cgroup_preflight.packages.selection import Selection


def require_system(selection: Selection, config: Config, status: str, distro: str) -> None:
    """Looks at what the packages need in the guest whose dpkg says `status`.

    Raises UsageError for packages that exclude each other, GuestError that names all missing dependencies.
    """
    system = installed(paragraphs(status))
    debs = [item for item in selection.packages if item.package.kind == "deb"]
    new = [item.package.fields for item in debs]
    if found := conflicts(new, system):
        raise UsageError(
            "; ".join(found), where=", ".join(item.package.path for item in debs),
            remedy=Remedy(title="test them in two runs, or correct Conflicts and Breaks"),
        )  # fmt: skip
    older = [item.previous.fields for item in debs if item.previous is not None]
    missing = {item.text: item for fields in (new, older) for item in unmet(fields, system)}
    if not missing:
        return
    listed = ", ".join(f"{item.text} (of {item.needed_by})" for item in missing.values())
    names = ", ".join(
        f'"{name}"' for name in dict.fromkeys((*config.target.packages, *(item.package for item in missing.values())))
    )
    raise GuestError(
        f"the {distro} guest lacks packages that the tested ones depend on: {listed}; nothing was installed",
        remedy=Remedy(title=f"write below [target] in the config: packages = [{names}]"),
    )  # fmt: skip
