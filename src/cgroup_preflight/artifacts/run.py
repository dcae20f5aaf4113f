"""What `run` does with artifacts: only after a pass, unless told otherwise."""

import os
from collections.abc import Callable, Mapping

from cgroup_preflight.artifacts import findings as artifact_findings
from cgroup_preflight.artifacts import inject
from cgroup_preflight.artifacts.content import Tested
from cgroup_preflight.artifacts.inject import InjectOptions
from cgroup_preflight.artifacts.model import ArtifactError
from cgroup_preflight.artifacts.request import artifact_paths, config_hash, request_of, source_date
from cgroup_preflight.config.binaries import program_hashes
from cgroup_preflight.config.model import Config
from cgroup_preflight.config.places import allowed
from cgroup_preflight.core import codes
from cgroup_preflight.core.errors import ConfigError, UsageError
from cgroup_preflight.core.report import Finding, Remedy, Status, Verdict
from cgroup_preflight.plan.model import Plan


def inject_after_run(
    config: Config, plan: Plan, before: Mapping[str, str], verdict: Verdict, mode: str,
    progress: Callable[[str], None],
) -> tuple[Finding, ...]:  # fmt: skip
    """Findings about the programs that were run (hashes `before` the run) and about each artifact of the config.

    `mode` is `passed` (only after a pass), `always` or `never`.
    """
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
    request = request_of(config, plan, Tested(verdict=verdict.value, binaries=before if passed else {}))
    try:
        paths, empty = artifact_paths(config)
    except ConfigError as error:
        return (*proof, *error.findings)
    options = InjectOptions(
        inside=allowed(config), rewrite_checksums=config.artifacts.rewrite_checksums,
        source_date=source_date(os.environ),
    )  # fmt: skip
    findings = [*proof, *(_no_match(pattern) for pattern in empty)]
    for path in paths:
        progress(f"injecting into {path}")
        findings += findings_of(path, lambda path: artifact_findings.written(inject.put(path, request, options)))
    return tuple(findings)


def findings_of(path: str, act: Callable[[str], tuple[Finding, ...]]) -> tuple[Finding, ...]:
    """The findings of `act` on one artifact; an error in one artifact does not stop the others."""
    try:
        return act(path)
    except ArtifactError as error:
        return (artifact_findings.refused(path, error),)
    except UsageError as error:
        wrong = ArtifactError(codes.CORRUPT_ARTIFACT, error.message, where=error.where, remedy=error.remedy)
        return (artifact_findings.refused(path, wrong),)


def _changed(name: str) -> Finding:
    return codes.TESTED_BINARY.finding(
        Status.FAIL,
        name,
        "its program was replaced during the run: which build was tested is unknown",
        Remedy(title="run again after the build has ended"),
    )


def _skipped(config: Config, verdict: Verdict) -> Finding:
    return codes.NOT_INJECTED.finding(
        Status.SKIP,
        ", ".join(config.inject),
        f"no artifact was changed because the run ended with {verdict.value}",
        Remedy(title="fix what failed, or use run --inject always"),
    )


def _no_match(pattern: str) -> Finding:
    return codes.NOT_INJECTED.finding(
        Status.FAIL,
        pattern,
        "no artifact matches this pattern, so the plan is shipped nowhere",
        Remedy(title="build the artifacts first, or correct inject in [artifacts]"),
    )
