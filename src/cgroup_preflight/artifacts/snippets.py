"""Snippets for projects that build their packages themselves: nfpm, GoReleaser, debhelper, rpm spec files. Pure.

Each begins with the same commands: they put the files and their manifest into a folder, which is packed from there.
Sources: nfpm's and GoReleaser's configuration references (contents; archives.files, builds.hooks), debhelper's
dh_install(1), systemd's rpm macros (%{_unitdir}).
"""

import os
import shlex
from collections.abc import Sequence

from cgroup_preflight.artifacts.content import ALL, ContentRequest, Contents, wanted_files
from cgroup_preflight.artifacts.model import PackedProgram
from cgroup_preflight.core.records import dataclass
from cgroup_preflight.core.report import Remedy, RemedyFile

_STAGE = "build/cgroup-preflight"
KINDS = ("nfpm", "goreleaser", "debian", "spec")
_PROOF = "add --report report.json, from `cgroup-preflight run --format json=report.json`, to include the proof"


@dataclass(frozen=True, slots=True, kw_only=True)
class Staging:
    """What goes into the stage: `paths` relative to the root, `commands` that put them there, in order."""

    paths: Sequence[str]
    commands: Sequence[str]


def snippet(kind: str, staging: Staging) -> str:
    """The snippet of `kind` (one of KINDS)."""
    return {"nfpm": _nfpm, "goreleaser": _goreleaser, "debian": _debian, "spec": _spec}[kind](staging)


def rpm_remedy(staging: Staging) -> Remedy:
    """What to do for an rpm: its header contains a digest of every file, and a signature over them."""
    return Remedy(
        title="add the files while the package is built: with nfpm (nfpm.yaml), or in the spec file",
        why="the header of an rpm contains a digest of each file and is signed; a later change makes another package",
        commands=(("cgroup-preflight", "inject", "--emit", "nfpm"), ("cgroup-preflight", "inject", "--emit", "spec")),
        files=(
            RemedyFile(path="nfpm.yaml", content=snippet("nfpm", staging)),
            RemedyFile(path="package.spec", content=snippet("spec", staging)),
        ),
    )


def _nfpm(staging: Staging) -> str:
    lines = ["# Before `nfpm package`:", *(f"#   {command}" for command in staging.commands), f"# ({_PROOF})"]
    return "\n".join([*lines, *_contents(staging.paths), ""])


def _contents(paths: Sequence[str]) -> list[str]:
    lines = ["contents:"]
    for path in paths:
        lines += [f"  - src: {_STAGE}/{path}", f"    dst: /{path}", "    file_info:", "      mode: 0644"]
    return lines


def _goreleaser(staging: Staging) -> str:
    lines = [
        "builds:",
        "  - id: default",
        "    hooks:",
        "      post:",
        "        # Once, after the build of the platform that `binary` in cgroup-preflight.toml names;",
        f"        # {_PROOF}.",
    ]
    for command in staging.commands:
        quoted = command.replace("'", "''")
        once = f'{{{{ if eq .Target "linux_amd64_v1" }}}}{quoted}{{{{ else }}}}true{{{{ end }}}}'
        lines.append(f"        - cmd: '{once}'")
    lines += ["nfpms:", "  - id: default", *(f"    {line}" for line in _contents(staging.paths))]
    lines += ["archives:", "  - id: default", "    files:"]
    for path in staging.paths:
        folder = path.rpartition("/")[0]
        lines += [f"      - src: {_STAGE}/{path}", f"        dst: {folder}", "        strip_parent: true"]
    return "\n".join([*lines, ""])


def _debian(staging: Staging) -> str:
    install = "\n".join(f"{_STAGE}/{path} {path.rpartition('/')[0]}/" for path in staging.paths)
    commands = "\n".join("\t" + command.replace("$", "$$") for command in staging.commands)
    return (
        f"# debian/rules (debhelper 13); {_PROOF}:\nexecute_before_dh_install:\n{commands}\n\n"
        f"# debian/install (debian/PACKAGE.install where there are several):\n{install}\n"
    )


def _spec(staging: Staging) -> str:
    install = "\n".join(f"install -D -p -m 0644 {_STAGE}/{path} %{{buildroot}}{_macro(path)}" for path in staging.paths)
    files = "\n".join(_macro(path) for path in staging.paths)
    build = "\n".join(command.replace("%", "%%") for command in staging.commands)
    return f"BuildRequires: systemd-rpm-macros\n\n%build\n{build}\n\n%install\n{install}\n\n%files\n{files}\n"


def _macro(path: str) -> str:
    for folder, macro in (("usr/lib/systemd/system/", "%{_unitdir}/"), ("usr/lib/systemd/user/", "%{_userunitdir}/"),
                          ("usr/share/", "%{_datadir}/")):  # fmt: skip
        if path.startswith(folder):
            return macro + path.removeprefix(folder)
    return f"/{path}"


def staging_of(request: ContentRequest) -> Staging:
    """The files of the request and the commands that make exactly them, with the options of the call."""
    services = frozenset(item.label for item in request.plan.services)
    programs, commands = {}, [f"mkdir -p {_STAGE}"]
    if request.service_units:
        # A whole unit names its program, so the program must be in the folder, at its path in the package.
        services = frozenset()
        for item in request.plan.services:
            path = request.below(f"usr/bin/{os.path.basename(item.binary)}")
            programs[item.label] = (PackedProgram(path=path, sha256=""),)
            commands.append(shlex.join(["install", "-D", os.path.relpath(item.binary), f"{_STAGE}/{path}"]))
    commands.append(shlex.join(["cgroup-preflight", "inject", *_options(request), _STAGE]))
    files = wanted_files(request, Contents(programs=programs, units=services))
    return Staging(paths=sorted(files), commands=commands)


def _options(request: ContentRequest) -> list[str]:
    words = [] if request.layout == "system" else ["--layout", request.layout]
    if request.prefix:
        words += ["--prefix", request.prefix]
    if not isinstance(request.services, str):
        words += ["--services", ",".join(sorted(request.services))]
    elif request.services != ALL:
        words += ["--services", ALL]
    return [*words, "--service-units"] if request.service_units else words
