"""What was done or found with artifacts, as findings. Pure."""

from collections.abc import Iterable, Iterator, Mapping

from cgroup_preflight.artifacts import manifest
from cgroup_preflight.artifacts.content import PRESENT, chosen
from cgroup_preflight.artifacts.edit import other_projects
from cgroup_preflight.artifacts.inject import Comparison, Written
from cgroup_preflight.artifacts.model import ArtifactError
from cgroup_preflight.artifacts.overrides import describe_overrides
from cgroup_preflight.core import codes
from cgroup_preflight.core.report import Evidence, Finding, Remedy, RemedyFile, Status, Verdict

#: A longer diff is cut; other tools can show the rest.
_DIFF_MAX = 20_000
_NAMES_MAX = 8
_PRESENT = Remedy(
    title="if it should contain one: pack the program under the name in `binary`, or set services to all; "
    "otherwise leave this artifact out"
)


def refused(path: str, error: ArtifactError) -> Finding:
    """An artifact that was not changed."""
    return error.code.finding(Status.FAIL, path, f"not changed: {error.message}", error.remedy)


def written(item: Written) -> tuple[Finding, ...]:
    """An artifact that now contains the plan, and the signatures and checksums that are wrong since."""
    compared = item.compared
    evidence: Evidence = {
        "format": compared.format,
        "changed": item.changed,
        "sha256_before": compared.sha256,
        "sha256_after": item.after,
        "files": len(compared.expected),
        "one_step": item.whole,
    }
    remedies = () if compared.expected else (_PRESENT,)
    status = Status.PASS if compared.expected else Status.WARN
    done = codes.ARTIFACT.finding(status, compared.path, _what(item), *remedies, evidence=evidence)
    return (done, *_idle(compared), *hidden(compared, Status.WARN), *_others(compared, Status.WARN),
            *(_stale(compared.path, place) for place in item.stale),
            *(_rewritten(compared.path, place) for place in item.rewritten))  # fmt: skip


def _what(item: Written) -> str:
    edit = item.compared.edit
    gone = f", {len(edit.dropped)} of an earlier plan removed" if edit.dropped else ""
    slowly = "" if item.whole else ", one by one: a mount point or the current folder cannot be replaced in one step"
    if not item.compared.expected:
        return f"contains no program and no unit of any service{gone or ', nothing was written'}"
    names = len(edit.added) + len(edit.replaced)
    absent = _absent(item.compared)
    if not item.changed:
        return f"contains the plan already, nothing was written (sha256 {item.after}){absent}"
    return f"{names} files added{gone}{slowly} (sha256 before {item.compared.sha256}, after {item.after}){absent}"


def _absent(compared: Comparison) -> str:
    """Which services of the plan got no file, because neither their program nor their unit is in the artifact."""
    if compared.scan.request.services != PRESENT:
        return ""
    with_files = {service.label for service in chosen(compared.scan.request, compared.scan.contents())}
    absent = [item.label for item in compared.scan.request.plan.services if item.label not in with_files]
    more = f" and {len(absent) - _NAMES_MAX} more" if len(absent) > _NAMES_MAX else ""
    return f"; not in this artifact, so without files: {', '.join(absent[:_NAMES_MAX])}{more}" if absent else ""


def _stale(path: str, place: str) -> Finding:
    return codes.STALE_SIGNATURE.finding(
        Status.WARN,
        path,
        f"{place} was made for the artifact before this change, and is wrong now",
        Remedy(title="sign after injecting; --rewrite-checksums corrects checksums"),
    )


def _rewritten(path: str, place: str) -> Finding:
    return codes.STALE_SIGNATURE.finding(
        Status.PASS, path, f"the checksum in {place} was corrected", evidence={"file": place}
    )


def _idle(compared: Comparison) -> Iterator[Finding]:
    """Programs without execute permission: systemd cannot start them, whatever the plan says."""
    for label, path in sorted(compared.scan.idle.items()):
        if label not in compared.scan.programs:
            yield codes.ARTIFACT.finding(
                Status.FAIL, compared.path, f"{path}, the program of {label}, is not executable, so systemd cannot start it",
                Remedy(title=f"chmod +x {path.rpartition('/')[2]} before it is packed"),
            )  # fmt: skip


def hidden(compared: Comparison, status: Status) -> tuple[Finding, ...]:
    """Files in the artifact that override the plan, with `status`, and services without a unit in it."""
    remedy = Remedy(title="remove it from the artifact, or move its settings into the config")
    gone = {found.member.path for found in compared.edit.dropped}
    overrides = [(found, override) for found, override in compared.scan.overrides if found.member.path not in gone]
    found = [
        codes.HIDDEN_UNIT.finding(status, compared.path, text, remedy)
        for text in describe_overrides(overrides, compared.expected)
    ]
    changed = Remedy(
        title="remove it there, or set it in Environment of the service in the config, so that a run has it"
    )
    found += [
        codes.HIDDEN_UNIT.finding(
            status if item.certain else Status.WARN, compared.path, f"{unit}: {item.message}", changed
        )
        for unit, item in compared.scan.sources.conflicts()
        if unit in {service.unit for service in chosen(compared.scan.request, compared.scan.contents())}
    ]
    units = {
        path.rpartition("/")[2].removesuffix(".service") for path in compared.expected if path.endswith(".service")
    }
    texts = [path for path in compared.expected if ".service.d/" in path]
    for path in sorted(texts):
        label = path.split("/")[-2].removesuffix(".service.d")
        if label not in compared.scan.units.keys() | units:
            remedy = Remedy(title="ship its unit file, or set service_units = true in [artifacts]")
            message = (
                f"the artifact has no {label}.service; its limits take effect only if another package ships that unit"
            )
            found.append(
                codes.HIDDEN_UNIT.finding(Status.SKIP, compared.path, message, remedy)
            )  # fmt: skip
    return tuple(found)


def _others(compared: Comparison, status: Status) -> Iterator[Finding]:
    """Other programs of a service's name than the tested one, with `status`; other projects in the same artifact."""
    wanted = compared.wanted_manifest
    tested = {item.service: item for item in wanted.binaries} if wanted else {}
    for label, programs in sorted(compared.scan.programs.items()):
        item = tested.get(label)
        if item is None or item.sha256 is None or item.path is None:
            continue
        for path in sorted(program.path for program in programs if program.sha256 != item.sha256):
            yield _tested(compared, label, status, f"{path} has the name of the tested program, but is another build")
    for path, other in sorted(other_projects(compared.scan).items()):
        yield codes.ARTIFACT.finding(
            Status.WARN,
            compared.path,
            f"{path} says that the artifact also contains files of the project {other.project}",
            Remedy(title="if this is an earlier name of the project, build the artifact again"),
        )


def checked(compared: Comparison) -> tuple[Finding, ...]:
    """Whether the artifact contains exactly the plan and the tested programs; a diff where not."""
    evidence: Evidence = {"format": compared.format, "sha256": compared.sha256}
    if not compared.edit.empty:
        paths = [new.path for new in compared.edit.added]
        paths += [
            found.member.path for found in (*(found for found, _ in compared.edit.replaced), *compared.edit.dropped)
        ]
        same = codes.ARTIFACT.finding(
            Status.FAIL,
            compared.path,
            f"does not match the plan: {', '.join(sorted(paths))}",
            Remedy(title="inject the plan", commands=(("cgroup-preflight", "inject", compared.path),)),
            evidence={**evidence, "diff": diff(compared)},
        )
    elif not compared.expected:
        same = codes.ARTIFACT.finding(
            Status.UNVERIFIED,
            compared.path,
            "contains no program and no unit of any service",
            _PRESENT,
            evidence=evidence,
        )
    else:
        same = codes.ARTIFACT.finding(
            Status.PASS, compared.path, f"matches the plan: {len(compared.expected)} files", evidence=evidence
        )
    return (
        same,
        *_idle(compared),
        *hidden(compared, Status.FAIL),
        *_others(compared, Status.UNVERIFIED),
        *_proof(compared),
    )


def diff(compared: Comparison) -> str:
    """The difference between what the artifact contains and what it must contain, as a unified diff."""
    import difflib  # only where something differs

    gone = {found.member.path for found in compared.edit.dropped}
    lines: list[str] = []
    size = 0
    for path in sorted({*compared.expected, *gone}):
        found = compared.scan.found.get(path)
        old = (found.data or b"") if found else b""
        new = b"" if path in gone else compared.expected[path]
        if old == new:
            continue
        names = (f"artifact/{path}" if found else "/dev/null", "/dev/null" if path in gone else f"plan/{path}")
        fresh = list(difflib.unified_diff(_lines(old), _lines(new), *names, lineterm=""))
        lines += fresh
        size += sum(len(line) + 1 for line in fresh)
        if size > _DIFF_MAX + 1:
            # A plan can have many thousands of files, and the rest would not be shown.
            break
    text = "\n".join(lines)
    return text if len(text) <= _DIFF_MAX else f"{text[:_DIFF_MAX]}\n... and more"


def _lines(data: bytes) -> list[str]:
    return data.decode("utf-8", "backslashreplace").splitlines()


def _proof(compared: Comparison) -> Iterable[Finding]:
    """What the manifest in the artifact says about tests, compared with the programs in it."""
    said = compared.manifest
    if said is None or not said.binaries:
        return
    for item in said.binaries:
        at = {program.path: program.sha256 for program in compared.scan.programs.get(item.service, ())}
        path = item.path or next((path for path, digest in at.items() if digest == item.sha256), "")
        if item.sha256 is None or said.verdict == manifest.UNTESTED:
            message = f"{item.service} was injected without a run that passed"
            yield _tested(compared, item.service, Status.UNVERIFIED, message, _WITH_REPORT)
        elif not path:
            yield _tested(compared, item.service, Status.UNVERIFIED,
                          f"the artifact contains no executable file with the name of the binary of {item.service}")  # fmt: skip
        elif at.get(path) != item.sha256:
            message = f"{path} (sha256 {at.get(path, 'none: the file is missing')}) is not the program that was tested"
            yield _tested(compared, item.service, Status.FAIL, f"{message} (sha256 {item.sha256})")
        else:
            yield _tested(compared, item.service, Status.PASS, f"{path} is the program that was tested")
    if said.verdict not in (Verdict.PASS.value, manifest.UNTESTED):
        yield _tested(compared, compared.path, Status.FAIL, f"the run before this injection ended with {said.verdict}")


_RUN = Remedy(
    title="run the preflight on this build; after a pass, it injects", commands=(("cgroup-preflight", "run"),)
)
_WITH_REPORT = Remedy(
    title="if a run of this build passed, inject its report as the proof",
    commands=(
        ("cgroup-preflight", "run", "--format", "json=report.json"),
        ("cgroup-preflight", "inject", "--report", "report.json", "ARTIFACT"),
    ),
)


def _tested(compared: Comparison, subject: str, status: Status, message: str, *more: Remedy) -> Finding:
    remedies = () if status is Status.PASS else (*more, _RUN)
    return codes.TESTED_BINARY.finding(status, subject, f"{compared.path}: {message}", *remedies)


def tested(digests: Mapping[str, str], config_sha256: str) -> tuple[Finding, ...]:
    """Which programs a run tested, for `inject --report` and later comparisons."""
    return tuple(
        codes.TESTED_BINARY.finding(
            Status.PASS,
            service,
            "this program was run under its limits",
            evidence={"sha256": digest, "config_sha256": config_sha256},
        )
        for service, digest in digests.items()
    )


def snippet_files(item: Finding) -> tuple[RemedyFile, ...]:
    """Files that the remedies of a finding ask for."""
    return tuple(file for remedy in item.remedies for file in remedy.files)
