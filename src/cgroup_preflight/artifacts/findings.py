"""Findings about artifacts: what was written, and what was found in them. Pure."""

import difflib
from collections.abc import Iterable, Iterator, Mapping

from cgroup_preflight.artifacts import manifest
from cgroup_preflight.artifacts.edit import other_projects
from cgroup_preflight.artifacts.inject import Looked, Written
from cgroup_preflight.artifacts.model import ArtifactError
from cgroup_preflight.artifacts.overrides import judged
from cgroup_preflight.core import codes
from cgroup_preflight.core.report import Evidence, Finding, Remedy, RemedyFile, Status, Verdict

#: The most characters of a diff that are shown.
_DIFF_MAX = 20_000
_PRESENT = Remedy(
    title="if it should contain one, pack the program under the name in `binary`, or set services to all; "
    "otherwise remove this artifact from the list"
)


def refused(path: str, error: ArtifactError) -> Finding:
    """An artifact that was not changed, and why."""
    return error.code.finding(Status.FAIL, path, f"not changed: {error.message}", error.remedy)


def written(item: Written) -> tuple[Finding, ...]:
    """An artifact that now contains the plan, and what no longer matches it."""
    looked = item.looked
    evidence: Evidence = {
        "format": looked.format,
        "changed": item.changed,
        "sha256_before": looked.sha256,
        "sha256_after": item.after,
        "files": len(looked.expected),
        "one_step": item.whole,
    }
    status, remedies = (Status.PASS, ()) if looked.expected else (Status.WARN, (_PRESENT,))
    done = codes.ARTIFACT.finding(status, looked.path, _what(item), *remedies, evidence=evidence)
    return (done, *hidden(looked, Status.WARN), *_others(looked, Status.WARN),
            *(_stale(looked.path, place) for place in item.stale),
            *(_rewritten(looked.path, place) for place in item.rewritten))  # fmt: skip


def _what(item: Written) -> str:
    edit = item.looked.edit
    gone = f", {len(edit.dropped)} of an earlier plan removed" if edit.dropped else ""
    slowly = (
        "" if item.whole else ", one by one, because a mount point or the current folder cannot be replaced in one step"
    )
    if not item.looked.expected:
        return f"contains no program and no unit of any service{gone or ', nothing was written'}"
    names = len(edit.added) + len(edit.replaced)
    if not item.changed:
        return f"already contains the plan, nothing was written (sha256 {item.after})"
    return f"added {names} files{gone}{slowly} (sha256 before {item.looked.sha256}, after {item.after})"


def _stale(path: str, place: str) -> Finding:
    message = f"{place} was made for the artifact before the change and no longer matches"
    remedy = Remedy(title="sign after injecting; --rewrite-checksums corrects checksums")
    return codes.STALE_SIGNATURE.finding(Status.WARN, path, message, remedy)


def _rewritten(path: str, place: str) -> Finding:
    message = f"corrected the checksum in {place}"
    return codes.STALE_SIGNATURE.finding(Status.PASS, path, message, evidence={"file": place})


def hidden(looked: Looked, status: Status) -> tuple[Finding, ...]:
    """Files in the artifact that override the plan, with `status`, and services that have no unit in it."""
    remedy = Remedy(title="remove it from the artifact, or move its settings into the config")
    gone = {found.member.path for found in looked.edit.dropped}
    rivals = [(found, rival) for found, rival in looked.survey.rivals if found.member.path not in gone]
    found = [codes.HIDDEN_UNIT.finding(status, looked.path, text, remedy) for text in judged(rivals, looked.expected)]
    units = {path.rpartition("/")[2].removesuffix(".service") for path in looked.expected if path.endswith(".service")}
    texts = [path for path in looked.expected if ".service.d/" in path]
    for path in sorted(texts):
        label = path.split("/")[-2].removesuffix(".service.d")
        if label not in looked.survey.units.keys() | units:
            remedy = Remedy(title="ship the unit file, or set service_units = true in [artifacts]")
            message = f"the artifact has no {label}.service; the limits apply only if another package ships one"
            found.append(codes.HIDDEN_UNIT.finding(Status.SKIP, looked.path, message, remedy))
    return tuple(found)


def _others(looked: Looked, status: Status) -> Iterator[Finding]:
    """Other programs of a service's name than the tested one, with `status`; other projects in the same artifact."""
    wanted = looked.wanted_manifest
    tested = {item.service: item for item in wanted.binaries} if wanted else {}
    for label, programs in sorted(looked.survey.programs.items()):
        item = tested.get(label)
        if item is None or item.sha256 is None or item.path is None:
            continue
        for path in sorted(program.path for program in programs if program.sha256 != item.sha256):
            yield _tested(looked, label, status, f"{path} has the name of the tested program, but is another program")
    for path, other in sorted(other_projects(looked.survey).items()):
        message = f"{path} says that the artifact also contains files of the project {other.project}"
        remedy = Remedy(title="if that is an earlier name of this project, build the artifact again")
        yield codes.ARTIFACT.finding(Status.WARN, looked.path, message, remedy)


def checked(looked: Looked) -> tuple[Finding, ...]:
    """Whether the artifact contains exactly the plan and the tested programs; a diff where it does not."""
    evidence: Evidence = {"format": looked.format, "sha256": looked.sha256}
    if not looked.edit.empty:
        paths = [new.path for new in looked.edit.added]
        paths += [found.member.path for found in (*(found for found, _ in looked.edit.replaced), *looked.edit.dropped)]
        same = codes.ARTIFACT.finding(
            Status.FAIL, looked.path, f"does not contain exactly the plan: {', '.join(sorted(paths))}",
            Remedy(title="put the plan into the artifact", commands=(("cgroup-preflight", "inject", looked.path),)),
            evidence={**evidence, "diff": diff(looked)},
        )  # fmt: skip
    elif not looked.expected:
        message = "contains no program and no unit of any service"
        same = codes.ARTIFACT.finding(Status.UNVERIFIED, looked.path, message, _PRESENT, evidence=evidence)
    else:
        message = f"contains exactly the plan: {len(looked.expected)} files"
        same = codes.ARTIFACT.finding(Status.PASS, looked.path, message, evidence=evidence)
    return (same, *hidden(looked, Status.FAIL), *_others(looked, Status.UNVERIFIED), *_proof(looked))


def diff(looked: Looked) -> str:
    """The content of the artifact against the plan, as a unified diff."""
    gone = {found.member.path for found in looked.edit.dropped}
    lines: list[str] = []
    for path in sorted({*looked.expected, *gone}):
        found = looked.survey.found.get(path)
        old = (found.data or b"") if found else b""
        new = b"" if path in gone else looked.expected[path]
        if old == new:
            continue
        names = (f"artifact/{path}" if found else "/dev/null", "/dev/null" if path in gone else f"plan/{path}")
        lines += difflib.unified_diff(_lines(old), _lines(new), *names, lineterm="")
    text = "\n".join(lines)
    return text if len(text) <= _DIFF_MAX else f"{text[:_DIFF_MAX]}\n... and more"


def _lines(data: bytes) -> list[str]:
    return data.decode("utf-8", "backslashreplace").splitlines()


def _proof(looked: Looked) -> Iterable[Finding]:
    """What the manifest in the artifact says about tests, against the programs in the artifact."""
    said = looked.manifest
    if said is None or not said.binaries:
        return
    for item in said.binaries:
        at = {program.path: program.sha256 for program in looked.survey.programs.get(item.service, ())}
        path = item.path or next((path for path, digest in at.items() if digest == item.sha256), "")
        if item.sha256 is None or said.verdict == manifest.UNTESTED:
            message = f"{item.service} was added without a run that passed"
            yield _tested(looked, item.service, Status.UNVERIFIED, message)
        elif not path:
            yield _tested(looked, item.service, Status.UNVERIFIED,
                          f"the artifact contains no executable file with the name of {item.service}'s binary")  # fmt: skip
        elif at.get(path) != item.sha256:
            message = f"{path} (sha256 {at.get(path, 'none: missing')}) is not the program that was tested"
            yield _tested(looked, item.service, Status.FAIL, f"{message} (sha256 {item.sha256})")
        else:
            yield _tested(looked, item.service, Status.PASS, f"{path} is the program that was tested")
    if said.verdict not in (Verdict.PASS.value, manifest.UNTESTED):
        yield _tested(looked, looked.path, Status.FAIL, f"the run that added the plan ended with {said.verdict}")


def _tested(looked: Looked, subject: str, status: Status, message: str) -> Finding:
    title = "run the preflight on this build; it injects after a pass"
    remedies = () if status is Status.PASS else (Remedy(title=title, commands=(("cgroup-preflight", "run"),)),)
    return codes.TESTED_BINARY.finding(status, subject, f"{looked.path}: {message}", *remedies)


def tested(digests: Mapping[str, str], config_sha256: str) -> tuple[Finding, ...]:
    """Which programs a run tested, for `inject --report` and for later comparisons."""
    return tuple(
        codes.TESTED_BINARY.finding(
            Status.PASS,
            service,
            "the program that was run",
            evidence={"sha256": digest, "config_sha256": config_sha256},
        )
        for service, digest in digests.items()
    )


def snippet_files(item: Finding) -> tuple[RemedyFile, ...]:
    """The files of a finding's remedies."""
    return tuple(file for remedy in item.remedies for file in remedy.files)
