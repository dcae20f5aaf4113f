"""Pages of the codes of built packages (CGP52x)."""

from cgroup_preflight.checks.page import Page
from cgroup_preflight.core import codes
from cgroup_preflight.core.codes import Code

_POLICY = "https://www.debian.org/doc/debian-policy/ch-maintainerscripts.html"
_CONTROL = "https://www.freedesktop.org/software/systemd/man/latest/systemd.resource-control.html"

PACKAGE_PAGES: dict[Code, Page] = {
    codes.PACKAGE: Page(
        what="Checks that the limits of the config are in the tested file, and shows its SHA-256.",
        fails=(
            "The package has no drop-in with the limits of the config for some units. The run added them, so the test "
            "holds for a package that does not exist yet."
        ),
        fix="Run `cgroup-preflight inject` on the package, then test that file.",
        about=("package", "deb", "sha256"),
        sources=("https://manpages.debian.org/deb.5",),
    ),
    codes.PACKAGE_INSTALL: Page(
        what="Checks that the packages can be installed in a guest, with their maintainer scripts.",
        fails=(
            "dpkg refused a package, or one of its scripts failed or did not end within install_timeout. It would do the "
            "same on every deploy."
        ),
        fix="Read the output in the evidence and correct the script; raise [target] install_timeout if it only needs longer.",
        about=("package", "dpkg", "postinst", "install_timeout"),
        sources=(_POLICY,),
    ),
    codes.PACKAGE_START: Page(
        what="Checks that a service starts as its package installed it, in its slice, with each limit in the kernel, twice.",
        fails=(
            "systemd refuses the unit, the program ends, the unit runs in another slice, or the limits in the package are "
            "not those of the config."
        ),
        fix="Read what systemd says; run `cgroup-preflight inject` again where the limits of the package are old.",
        about=("package", "unit", "postinst"),
        sources=(_CONTROL,),
    ),
    codes.PACKAGE_UPGRADE: Page(
        what="Checks that a service that runs through an upgrade has the limits of the new package afterwards.",
        fails=(
            "The service runs on with the old limits: nothing loaded the new unit files, or systemd 257 loaded them and left "
            "the kernel's files as they were."
        ),
        fix="Let postinst restart the service, or set its limits with `systemctl set-property --runtime`.",
        about=("package", "upgrade", "daemon-reload", "set-property"),
        sources=(_POLICY, _CONTROL),
    ),
    codes.PACKAGE_REMOVAL: Page(
        what="Checks that packages can be removed and purged, and that nothing of them is left.",
        fails=(
            "A process still runs, a unit is active or failed, or files below /usr or /etc stay. Users and groups may stay, "
            "and so may an empty slice until the next boot."
        ),
        fix="Stop the service in prerm; let postrm remove what the package made.",
        about=("package", "purge", "prerm", "postrm"),
        sources=(_POLICY,),
    ),
}  # fmt: skip
