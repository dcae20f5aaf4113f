"""What was done or found with artifacts, as findings. Pure."""

import difflib
from collections.abc import Iterable, Mapping

from cgroup_preflight.artifacts import manifest
from cgroup_preflight.artifacts.errors import ArtifactError
from cgroup_preflight.artifacts.inject import Looked, Written
from cgroup_preflight.report import Evidence, Finding, Remedy, RemedyFile, Status, Verdict

#: A diff longer than this helps nobody; the rest can be seen with other tools.
_DIFF_MAX = 20_000


def refused(path: str, error: ArtifactError) -> Finding:
    """An artifact that was left as it is."""
    return Finding(code=error.code, name=error.name, status=Status.FAIL, subject=path,
                   message=f"left untouched: {error.message}", remedies=(error.remedy,))  # fmt: skip


def written(item: Written) -> tuple[Finding, ...]:
    """An artifact that now holds the plan, and what that made wrong."""
    looked = item.looked
    names = len(looked.edit.added) + len(looked.edit.replaced)
    gone = f", {len(looked.edit.dropped)} of an earlier plan removed" if looked.edit.dropped else ""
    message = f"{names} files put in{gone}" if item.changed else "holds the plan already, nothing was written"
    evidence: Evidence = {
        "format": looked.format,
        "changed": item.changed,
        "sha256_before": looked.sha256,
        "sha256_after": item.after,
        "files": len(looked.expected),
        "one_step": item.whole,
    }
    done = Finding(code="CGP301", name="artifact", status=Status.PASS, subject=looked.path, message=message,
                   evidence=evidence)  # fmt: skip
    return (done, *hidden(looked), *(_stale(looked.path, place) for place in item.stale),
            *(_rewritten(looked.path, place) for place in item.rewritten))  # fmt: skip


def _stale(path: str, place: str) -> Finding:
    return Finding(
        code="CGP307", name="stale-signature", status=Status.WARN, subject=path,
        message=f"{place} was made for the artifact as it was before, and is wrong now",
        remedies=(Remedy(title="sign after injecting; checksums can be written again with --rewrite-checksums"),),
    )  # fmt: skip


def _rewritten(path: str, place: str) -> Finding:
    return Finding(code="CGP307", name="stale-signature", status=Status.PASS, subject=path,
                   message=f"the checksum in {place} was written again", evidence={"file": place})  # fmt: skip


def hidden(looked: Looked) -> tuple[Finding, ...]:
    """Files in the artifact that systemd prefers to ours, and services that have no unit there."""
    found = [
        Finding(code="CGP308", name="hidden-unit", status=Status.WARN, subject=looked.path,
                message=f"{path!r} in the artifact comes before, or after and over, what the plan says",
                remedies=(Remedy(title="remove it, or move its settings into the config"),))
        for path in sorted(looked.survey.shadows)
    ]  # fmt: skip
    units = {path.rpartition("/")[2].removesuffix(".service") for path in looked.expected if path.endswith(".service")}
    texts = [path for path in looked.expected if ".service.d/" in path]
    for path in sorted(texts):
        label = path.split("/")[-2].removesuffix(".service.d")
        if label not in looked.survey.units | units:
            remedy = Remedy(title="ship its unit file, or set service_units = true in [artifacts]")
            found.append(
                Finding(code="CGP308", name="hidden-unit", status=Status.SKIP, subject=looked.path, remedies=(remedy,),
                        message=f"the artifact has no {label}.service; its limits wait for one from elsewhere")
            )  # fmt: skip
    return tuple(found)


def checked(looked: Looked) -> tuple[Finding, ...]:
    """Whether the artifact holds exactly the plan and the tested programs; a diff where not."""
    if looked.edit.empty:
        same = Finding(code="CGP301", name="artifact", status=Status.PASS, subject=looked.path,
                       message=f"holds exactly the plan: {len(looked.expected)} files",
                       evidence={"format": looked.format, "sha256": looked.sha256})  # fmt: skip
    else:
        paths = [new.path for new in looked.edit.added]
        paths += [found.member.path for found in (*(found for found, _ in looked.edit.replaced), *looked.edit.dropped)]
        same = Finding(
            code="CGP301", name="artifact", status=Status.FAIL, subject=looked.path,
            message=f"does not hold the plan: {', '.join(sorted(paths))}",
            evidence={"format": looked.format, "sha256": looked.sha256, "diff": diff(looked)},
            remedies=(Remedy(title="put the plan in", commands=(("cgroup-preflight", "inject", looked.path),)),),
        )  # fmt: skip
    return (same, *hidden(looked), *_proof(looked))


def diff(looked: Looked) -> str:
    """What is in the artifact against what has to be there, as a unified diff."""
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
    """What the manifest in the artifact says about tests, against the programs that are there."""
    said = looked.manifest
    if said is None or not said.binaries:
        return
    for item in said.binaries:
        at = {program.path: program.sha256 for program in looked.survey.programs.get(item.service, ())}
        if item.sha256 is None or said.verdict == manifest.UNTESTED:
            message = f"{item.service} was put in without a run that passed"
            yield _tested(looked, item.service, Status.UNVERIFIED, message)
        elif item.path is None:
            yield _tested(looked, item.service, Status.WARN, f"the artifact holds no program of {item.service}")
        elif at.get(item.path) != item.sha256:
            message = f"{item.path} (sha256 {at.get(item.path, 'none: not there')}) is not the program that was tested"
            yield _tested(looked, item.service, Status.FAIL, f"{message} (sha256 {item.sha256})")
        else:
            yield _tested(looked, item.service, Status.PASS, f"{item.path} is the program that was tested")
    if said.verdict not in (Verdict.PASS.value, manifest.UNTESTED):
        yield _tested(looked, looked.path, Status.FAIL, f"the run that put the plan in ended with {said.verdict}")


def _tested(looked: Looked, subject: str, status: Status, message: str) -> Finding:
    title = "run the preflight on this build; it injects when it passed"
    remedies = () if status is Status.PASS else (Remedy(title=title, commands=(("cgroup-preflight", "run"),)),)
    return Finding(code="CGP302", name="tested-binary", status=status, subject=subject,
                   message=f"{looked.path}: {message}", remedies=remedies)  # fmt: skip


def tested(digests: Mapping[str, str], config_sha256: str) -> tuple[Finding, ...]:
    """Which programs a run tested, for `inject --report` and for whoever compares later."""
    return tuple(
        Finding(code="CGP302", name="tested-binary", status=Status.PASS, subject=service,
                message="the program that was run", evidence={"sha256": digest, "config_sha256": config_sha256})
        for service, digest in digests.items()
    )  # fmt: skip


def snippet_files(item: Finding) -> tuple[RemedyFile, ...]:
    """Files that the remedies of a finding ask for."""
    return tuple(file for remedy in item.remedies for file in remedy.files)
