"""`cgroup-preflight inject`: puts the generated unit files into build artifacts, or checks that they are in."""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from cgroup_preflight.artifacts import findings as artifact_findings
from cgroup_preflight.artifacts import inject
from cgroup_preflight.artifacts.content import ALL, LAYOUTS, PRESENT, ContentRequest
from cgroup_preflight.artifacts.inject import InjectOptions
from cgroup_preflight.artifacts.model import Limits
from cgroup_preflight.artifacts.request import artifact_paths, request_of, source_date, with_report
from cgroup_preflight.artifacts.run import findings_of
from cgroup_preflight.artifacts.snippets import KINDS, snippet, staging_of
from cgroup_preflight.cli import common, options, policy
from cgroup_preflight.cli.terminal import width_of
from cgroup_preflight.config.keys import parse_prefix
from cgroup_preflight.config.model import AUTO_PREFIX, Config
from cgroup_preflight.config.places import allowed
from cgroup_preflight.config.tables import nearest
from cgroup_preflight.core import codes
from cgroup_preflight.core.errors import ExitStatus, UsageError
from cgroup_preflight.core.quantities import QuantityError, Size, parse_amount
from cgroup_preflight.core.records import replace
from cgroup_preflight.core.report import NO_PASS, Finding, Remedy, Report, Status
from cgroup_preflight.core.verdict import exit_status_of
from cgroup_preflight.report.escape import plain
from cgroup_preflight.report.views import excuse
from cgroup_preflight.report.wrap import wrap

_ABOUT = """\
Puts the slices, one drop-in for each service and a manifest into build
artifacts: folder, tar (gz, xz, zst, bz2), zip, deb. An artifact is replaced
completely or not at all; its other content stays as it is. Without ARTIFACT,
it takes the list `inject` in [artifacts] of the config.

Use it after the build, so that the limits ship with the programs, and with
--check in a later job, to prove that an artifact has them.

    cgroup-preflight inject dist/shop.tar.gz dist/shop.deb
    cgroup-preflight inject --check dist/shop.deb         (also prints a diff)
    cgroup-preflight inject --report report.json dist/*   (adds its proof)
    cgroup-preflight inject --emit nfpm                   (for your packager)

Exit status: 0 done, or no difference; 1 the artifact differs from the plan or
from the tested programs; 2 wrong call, or an artifact that cannot be changed
safely (it stays as it is); 3 the artifact has no proof of a passed run.
"""
#: Findings about an artifact that cannot be judged: the call was wrong, not the content.
_REFUSALS = tuple(
    item.code
    for item in (codes.ARTIFACT_CONFLICT, codes.UNSAFE_ARTIFACT, codes.CORRUPT_ARTIFACT, codes.UNSUPPORTED_ARTIFACT)
)


def main(words: list[str]) -> int:
    """The command. Raises UsageError, ConfigError."""
    started = common.start()
    parser = arguments()
    args = parser.parse_args(words)
    wanted = options.outputs(args.format, args.output, quiet=args.quiet)
    config = common.load_config(args.config, args.allow_outside)
    request = _request(args, config)
    if args.emit:
        options.write_stdout(snippet(args.emit, staging_of(request)))
        return 0
    settings = _inject_options(args, config)
    if not args.artifact:
        settings = replace(settings, inside=allowed(config))
    findings: list[Finding] = []
    for path in _paths(args.artifact, config):
        if not args.quiet:
            options.progress(f"{'checking' if args.check else 'injecting into'} {path}")
        findings += findings_of(path, lambda path: _act(path, request, settings, check=args.check))
    findings = list(policy.judged(findings, policy.rules_of(config, started)))
    report = common.report(started, None, findings, project=config.project)
    for item in wanted:
        if item.format == "text":
            _say(report, item, verbose=args.verbose)
        else:
            options.deliver(report, (item,), verbose=args.verbose)
    status = exit_status_of(report.verdict, allow_unverified=args.allow_unverified, exit_zero=args.exit_zero)
    refused = any(item.code in _REFUSALS and item.status is Status.FAIL for item in findings)
    return ExitStatus.USAGE if refused and status is ExitStatus.FAIL else status


def arguments() -> argparse.ArgumentParser:
    """The options of the command."""
    parser = options.parser("inject", _ABOUT)
    parser.add_argument(
        "artifact", nargs="*", metavar="ARTIFACT", help="folders and files (default: inject in [artifacts])"
    )
    options.add_config(parser)
    parser.add_argument(
        "--check", action="store_true", help="write nothing; exit with 1 if an artifact differs from the plan"
    )
    parser.add_argument("--emit", choices=KINDS, help="print a snippet for a project that builds its packages itself")
    parser.add_argument("--report", metavar="FILE", help="the JSON report of the run that tested these programs")
    parser.add_argument("--layout", choices=LAYOUTS, help="units of the system manager, or of users' managers")
    parser.add_argument(
        "--prefix",
        metavar="FOLDER",
        help="the folder in the artifact that is unpacked to / (default: the one folder that all of an archive is in)",
    )
    parser.add_argument("--services", metavar="WHICH",
                        help="present (those with a program or unit in the artifact), all, or NAME,NAME")  # fmt: skip
    parser.add_argument("--service-units", action="store_true", default=None,
                        help="write a whole unit for a service without one in the artifact")  # fmt: skip
    parser.add_argument("--force", action="store_true", help="replace files of the same name with other content")
    parser.add_argument("--rewrite-checksums", action="store_true", help="correct checksum files next to the artifact")
    parser.add_argument(
        "--max-size", metavar="SIZE", default="64G", help="refuse artifacts that unpack to more (default: 64G)"
    )
    parser.add_argument("--max-ratio", metavar="N", type=int, default=Limits().ratio,
                        help=f"refuse what unpacks to more than N times its size (default: {Limits().ratio})")  # fmt: skip
    parser.add_argument("--max-members", metavar="N", type=int, default=Limits().members,
                        help=f"refuse artifacts with more members (default: {Limits().members})")  # fmt: skip
    options.add_report(parser)
    return parser


def _act(path: str, request: ContentRequest, settings: InjectOptions, *, check: bool) -> tuple[Finding, ...]:
    if check:
        return artifact_findings.checked(inject.compare(path, request, replace(settings, force=True)))
    return artifact_findings.written(inject.put(path, request, settings))


def _request(args: argparse.Namespace, config: Config) -> ContentRequest:
    request = request_of(config, common.plan_of(config))
    try:
        prefix = request.prefix if args.prefix is None else parse_prefix(args.prefix)
    except QuantityError as error:
        raise UsageError(str(error), where="--prefix", remedy=Remedy(title=f"use {error.hint}")) from None
    request = replace(
        request, prefix="" if prefix == AUTO_PREFIX else prefix,
        auto_prefix=prefix == AUTO_PREFIX or (args.prefix is None and request.auto_prefix), layout=args.layout or request.layout,
        services=_services(args.services, request) if args.services else request.services,
        service_units=request.service_units if args.service_units is None else args.service_units,
    )  # fmt: skip
    return with_report(args.report, request) if args.report else request


def _services(text: str, request: ContentRequest) -> str | frozenset[str]:
    if text in (ALL, PRESENT):
        return text
    known = [item.label for item in request.plan.services]
    names = [name.strip() for name in text.split(",") if name.strip()]
    for name in names:
        if name not in known:
            remedy = Remedy(title=f"{nearest(name, known)}services: {', '.join(known) or 'none'}")
            raise UsageError(f"no service {name!r} in the config", where="--services", remedy=remedy)
    return frozenset(names)


def _inject_options(args: argparse.Namespace, config: Config) -> InjectOptions:
    try:
        size = parse_amount(args.max_size, zero=False)
    except QuantityError as error:
        raise UsageError(str(error), where="--max-size", remedy=Remedy(title=f"use {error.hint}")) from None
    unpacked = size.bytes if isinstance(size, Size) else 1 << 62
    limits = Limits(unpacked=unpacked, ratio=args.max_ratio, members=args.max_members)
    rewrite = args.rewrite_checksums or config.artifacts.rewrite_checksums
    return InjectOptions(
        limits=limits, force=args.force, rewrite_checksums=rewrite, source_date=source_date(os.environ)
    )


def _paths(named: Sequence[str], config: Config) -> Sequence[str]:
    if named:
        return tuple(dict.fromkeys(named))
    paths, empty = artifact_paths(config)
    if empty or not paths:
        what = f"no artifact matches {', '.join(empty)}" if empty else "no artifact is named"
        remedy = Remedy(title="build the artifacts first, or name them: cgroup-preflight inject ARTIFACT")
        raise UsageError(what, where=config.path, remedy=remedy)
    return paths


def _say(report: Report, wanted: options.Rendering, *, verbose: bool) -> None:
    """The findings as text: one line an artifact with its hashes, then what is wrong and what to do."""
    lines = []
    for item in report.findings:
        if wanted.quiet and item.status not in NO_PASS:
            continue
        if (
            item.code == codes.ARTIFACT.code
            or item.status not in (Status.PASS, Status.SKIP)
            or item.is_waived
            or verbose
        ):
            word = "ignored" if item.is_waived else item.status.value
            why = f" ({plain(excuse(item))})" if excuse(item) else ""
            lines.append(f"{word:<10} {item.code} {plain(item.subject)}: {plain(item.message)}{why}")
            lines += [plain(line) for line in str(item.evidence.get("diff", "")).splitlines()]
        if item.status not in (Status.PASS, Status.SKIP):
            lines += [f"    do:   {plain(remedy.title)}" for remedy in item.remedies]
            commands = [command for remedy in item.remedies for command in remedy.commands]
            lines += [f"          {plain(' '.join(command))}" for command in commands]
        for part in artifact_findings.snippet_files(item):
            lines += ["", f"--- {part.path}", *part.content.splitlines()]
    text = "".join(f"{line}\n" for line in lines)
    if wanted.file:
        options.write_text(Path(wanted.file), text)
    else:
        options.write_stdout(wrap(text, width_of(sys.stdout)))
