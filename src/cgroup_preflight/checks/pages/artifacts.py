"""Pages of the codes about build artifacts (CGP3xx)."""

from cgroup_preflight.checks.page import Page
from cgroup_preflight.core import codes
from cgroup_preflight.core.codes import Code

_UNIT = "https://www.freedesktop.org/software/systemd/man/latest/systemd.unit.html"

ARTIFACT_PAGES: dict[Code, Page] = {
    codes.ARTIFACT: Page(
        what="Checks that the artifact contains exactly the files of the plan.",
        fails="Other limits would ship than those that were tested, or none.",
        fix="Put the plan into the artifact: cgroup-preflight inject ARTIFACT.",
        about=("inject",),
        sources=(_UNIT,),
    ),
    codes.TESTED_BINARY: Page(
        what="Checks that the program in the artifact is the one that was run.",
        fails=(
            "The artifact contains another build, such as a stripped one, or a program under another name. The test "
            "proves nothing about it."
        ),
        fix="Set `binary` to the file that is packed; inject after the run, or with --report.",
        about=("inject", "sha256"),
        sources=("https://slsa.dev/spec/v1.0/verifying-artifacts",),
    ),
    codes.ARTIFACT_CONFLICT: Page(
        what="Checks that the artifact has no other file where a file of the plan goes.",
        fails="Two files set the same limit, and only one of them can ship.",
        fix="Remove the file from the artifact, or replace it with --force.",
        about=("inject", "drop-in"),
        sources=(_UNIT,),
    ),
    codes.UNSAFE_ARTIFACT: Page(
        what="Checks that every unpacker treats each member of the artifact in the same way.",
        fails=(
            "A member has a name that leads out of the folder, is a link where a file of the plan goes, exists "
            "twice, or is a device. Archives attack their readers in these ways."
        ),
        fix="Pack the artifact again without the member that the message names.",
        about=("inject",),
        sources=("https://cwe.mitre.org/data/definitions/22.html",),
    ),
    codes.CORRUPT_ARTIFACT: Page(
        what="Checks that the artifact is complete and unpacks to a plausible size.",
        fails="The artifact is truncated or damaged, or it could be a decompression bomb.",
        fix="Build the artifact again, or raise the limit that the message names.",
        about=("inject",),
        sources=("https://cwe.mitre.org/data/definitions/409.html",),
    ),
    codes.UNSUPPORTED_ARTIFACT: Page(
        what="Checks that the artifact has a format that can be changed after the build.",
        fails="The tool cannot write this format. The header of an rpm has a digest of every file, and a signature.",
        fix="Add the files while the package is built: cgroup-preflight inject --emit nfpm.",
        about=("inject", "rpm"),
        sources=("https://rpm-software-management.github.io/rpm/manual/format_v4.html",),
    ),
    codes.STALE_SIGNATURE: Page(
        what="Checks that signatures and checksums next to the artifact still match it.",
        fails="They were made before the plan was put in, so they no longer match.",
        fix="Sign after injecting; --rewrite-checksums corrects checksums.",
        about=("inject", "checksum"),
        sources=("https://www.debian.org/doc/manuals/securing-debian-manual/deb-pack-sign.en.html",),
    ),
    codes.HIDDEN_UNIT: Page(
        what="Checks that no file in the artifact hides or overrides a file of the plan.",
        fails=(
            "systemd prefers /etc to /usr/lib, and the last drop-in by name wins, so other limits apply than those "
            "that were tested. `inject --check` fails then; `inject` warns."
        ),
        fix="Remove the file from the artifact, or move its settings into the config.",
        about=("inject", "drop-in", "override"),
        sources=(_UNIT,),
    ),
    codes.NOT_INJECTED: Page(
        what="Checks that the artifacts of the config got the plan after a run that passed.",
        fails="The run did not pass, or the artifact does not exist, so that the plan does not ship.",
        fix="Fix what failed, or build the artifact first.",
        about=("inject",),
        sources=("https://systemd.io/CGROUP_DELEGATION/",),
    ),
}
