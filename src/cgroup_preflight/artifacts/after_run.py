"""What `run` does with artifacts: only after a pass, unless asked otherwise."""

import os
from collections.abc import Callable, Mapping

from cgroup_preflight.artifacts import findings as artifact_findings
from cgroup_preflight.artifacts import inject
from cgroup_preflight.artifacts.content import Tested
from cgroup_preflight.artifacts.inject import How
from cgroup_preflight.artifacts.model import ArtifactError
from cgroup_preflight.artifacts.request import artifact_paths, config_hash, program_hashes, source_date, wish_of
from cgroup_preflight.config.model import Config
from cgroup_preflight.core import codes
from cgroup_preflight.core.errors import UsageError
from cgroup_preflight.core.report import Finding, Remedy, Status, Verdict

#: When: after a pass, whatever the verdict is, or not at all.
MODES = ("passed", "always", "never")


def after_run(
    config: Config, before: Mapping[str, str], verdict: Verdict, mode: str, progress: Callable[[str], None]
) -> tuple[Finding, ...]:
    """Findings about the programs that were run (hashes `before` the run) and about each artifact of the config."""
    now = program_hashes(config)
    changed = sorted(name for name, digest in before.items() if now.get(name) != digest)
    if changed:
        return tuple(_changed(name) for name in changed)
    passed = verdict is Verdict.PASS
    proof = artifact_findings.tested(before, config_hash(config)) if passed else ()
    if not config.inject or mode == "never":
        return proof
    if not passed and mode == "passed":
        return (*proof, _skipped(config, verdict))
    wish = wish_of(config, Tested(verdict=verdict.value, binaries=before if passed else {}))
    paths, empty = artifact_paths(config)
    how = How(rewrite_checksums=config.artifacts.rewrite_checksums, source_date=source_date(os.environ))
    findings = [*proof, *(_none(pattern) for pattern in empty)]
    for path in paths:
        progress(f"injecting into {path}")
        findings += one(path, lambda path: artifact_findings.written(inject.put(path, wish, how)))
    return tuple(findings)


def one(path: str, act: Callable[[str], tuple[Finding, ...]]) -> tuple[Finding, ...]:
    """The findings of `act` on one artifact; what is wrong with that one does not keep others from their turn."""
    try:
        return act(path)
    except ArtifactError as error:
        return (artifact_findings.refused(path, error),)
    except UsageError as error:
        wrong = ArtifactError(codes.CORRUPT_ARTIFACT, error.message, where=error.where, remedy=error.remedy)
        return (artifact_findings.refused(path, wrong),)


def _changed(name: str) -> Finding:
    message = "its program was replaced while the run went on: what was tested is not known"
    return codes.TESTED_BINARY.finding(Status.FAIL, name, message, Remedy(title="run again when the build has ended"))


def _skipped(config: Config, verdict: Verdict) -> Finding:
    message = f"no artifact was touched, for the run ended with {verdict.value}"
    remedy = Remedy(title="mend what failed; or, knowing that, use run --inject always")
    return codes.NOT_INJECTED.finding(Status.SKIP, ", ".join(config.inject), message, remedy)


def _none(pattern: str) -> Finding:
    message = "no artifact has such a name, so the plan ships nowhere"
    remedy = Remedy(title="build the artifacts first, or mend inject in [artifacts]")
    return codes.NOT_INJECTED.finding(Status.FAIL, pattern, message, remedy)
