"""Snippets for projects that package themselves. Pure.

Each begins with the same two commands: the files and their manifest are put into a folder, and packed from there.
Sources: nfpm's and GoReleaser's configuration references (contents, archives.files), debhelper's dh_install(1),
systemd's rpm macros (%{_unitdir}).
"""

from collections.abc import Sequence

from cgroup_preflight.report import Remedy, RemedyFile

STAGE = "build/cgroup-preflight"
KINDS = ("nfpm", "goreleaser", "debian", "spec")
_PREPARE = f"mkdir -p {STAGE} && cgroup-preflight inject {STAGE}"


def snippet(kind: str, paths: Sequence[str]) -> str:
    """The snippet of `kind` (one of KINDS) for files at `paths`, relative to the root."""
    return {"nfpm": _nfpm, "goreleaser": _goreleaser, "debian": _debian, "spec": _spec}[kind](sorted(paths))


def rpm_remedy(paths: Sequence[str]) -> Remedy:
    """What to do for an rpm: its header holds a digest of every file, and a signature over them."""
    return Remedy(
        title="put the files in while the package is built: with nfpm (nfpm.yaml), or in the spec file",
        why="an rpm's header holds a digest of each file and is signed; changing it afterwards makes another package",
        commands=(("cgroup-preflight", "inject", "--emit", "nfpm"), ("cgroup-preflight", "inject", "--emit", "spec")),
        files=(
            RemedyFile(path="nfpm.yaml", content=snippet("nfpm", paths)),
            RemedyFile(path="package.spec", content=snippet("spec", paths)),
        ),
    )


def _nfpm(paths: Sequence[str]) -> str:
    return "\n".join([f"# Before `nfpm package`: {_PREPARE}", *_contents(paths), ""])


def _contents(paths: Sequence[str]) -> list[str]:
    lines = ["contents:"]
    for path in paths:
        lines += [f"  - src: {STAGE}/{path}", f"    dst: /{path}", "    file_info:", "      mode: 0644"]
    return lines


def _goreleaser(paths: Sequence[str]) -> str:
    lines = [
        "before:",
        "  hooks:",
        f"    - mkdir -p {STAGE}",
        f"    - cgroup-preflight inject {STAGE}",
        "nfpms:",
        "  - id: default",
        *(f"    {line}" for line in _contents(paths)),
        "archives:",
        "  - id: default",
        "    files:",
    ]
    for path in paths:
        folder = path.rpartition("/")[0]
        lines += [f"      - src: {STAGE}/{path}", f"        dst: {folder}", "        strip_parent: true"]
    return "\n".join([*lines, ""])


def _debian(paths: Sequence[str]) -> str:
    install = "\n".join(f"{STAGE}/{path} {path.rpartition('/')[0]}/" for path in paths)
    return (
        f"# debian/rules (debhelper 13):\nexecute_before_dh_install:\n"
        f"\tmkdir -p {STAGE}\n\tcgroup-preflight inject {STAGE}\n\n"
        f"# debian/install (debian/PACKAGE.install where there are several):\n{install}\n"
    )


def _spec(paths: Sequence[str]) -> str:
    install = "\n".join(f"install -D -p -m 0644 {STAGE}/{path} %{{buildroot}}{_macro(path)}" for path in paths)
    files = "\n".join(_macro(path) for path in paths)
    return f"BuildRequires: systemd-rpm-macros\n\n%build\n{_PREPARE}\n\n%install\n{install}\n\n%files\n{files}\n"


def _macro(path: str) -> str:
    for folder, macro in (("usr/lib/systemd/system/", "%{_unitdir}/"), ("usr/lib/systemd/user/", "%{_userunitdir}/"),
                          ("usr/share/", "%{_datadir}/")):  # fmt: skip
        if path.startswith(folder):
            return macro + path.removeprefix(folder)
    return f"/{path}"
