"""`cgroup-preflight publish`: sends reports to the pull or merge request."""

import argparse
import os
import re
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from cgroup_preflight.cli import options
from cgroup_preflight.core.errors import ExitStatus, UsageError
from cgroup_preflight.core.report import Remedy, Report
from cgroup_preflight.core.verdict import exit_status_of
from cgroup_preflight.publish.clock import Outside, RequestClock

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cgroup_preflight.publish.forges import Forge
    from cgroup_preflight.publish.legs import Expected
    from cgroup_preflight.publish.options import Options, Results
    from cgroup_preflight.publish.origin import LegId
    from cgroup_preflight.publish.receipt import Outcome
    from cgroup_preflight.publish.secret import Secret

_ABOUT = """\
Publishes one report, or many merged into one, on the pull request (GitHub) or
merge request (GitLab) of this job, and prints a receipt with the result of
each channel (comment, check run, summary, ...). The environment tells GitHub
from GitLab. Outside of both, it only merges reports.

Use it as the last step of a job, or once for all jobs of a matrix.

    cgroup-preflight run --format json=report.json
    cgroup-preflight publish report.json
    cgroup-preflight publish reports/           (all .json files below a folder)
    cgroup-preflight publish a.json b.json --format markdown=all.md
    cgroup-preflight publish --hosts hosts.txt fleet/        (fleet/HOST.json)

Tokens come from the environment, or from stdin with --token-stdin:
CGROUP_PREFLIGHT_GITHUB_TOKEN, GITHUB_TOKEN, GH_TOKEN;
CGROUP_PREFLIGHT_GITLAB_TOKEN, GITLAB_TOKEN, CI_JOB_TOKEN.

Exit status: 0 for every verdict, because the job that made the report has
returned it already; --fail-on changes that. 2 wrong call or report, 5 not
delivered (only with --publish strict). Publishing never changes the verdict.
"""
#: Largest file of `--format markdown`, bytes.
_MARKDOWN_MAX = 1_000_000
_KEY_HELP = "name that separates several results on one pull or merge request: letters, digits, '.', '_', '-'"


def main(words: list[str]) -> int:
    """The command. Raises UsageError."""
    return run(words, RequestClock())


def run(words: list[str], clock: RequestClock) -> int:
    """The command with `clock` for everything that waits. Raises UsageError."""
    args = arguments().parse_args(words)
    wanted = _outputs(args)
    from cgroup_preflight.publish import forges
    from cgroup_preflight.publish import receipt as receipts
    from cgroup_preflight.publish.secret import redact

    environ = {**os.environ, **(_tokens() if args.token_stdin else {})}
    forge = forges.detect(environ, args.provider, commit=_commit(args.commit))
    secrets = forges.secrets_of(environ)
    given = _options(args)
    results = _results(args, forge, given, secrets)
    receipt = forges.publish(
        forge, results, given, Outside(say=_say, clock=clock), hide=lambda text: redact(text, secrets)
    )
    options.write_stderr("".join(f"{line}\n" for line in receipts.lines(receipt.outcomes)))
    report = results.merged.report
    told = receipts.with_receipt(report, receipt.outcomes)
    _write_formats(results, told, wanted, fenced=forge is not None and forge.reads_commands)
    if args.receipt:
        _write_receipt(args.receipt, receipt.outcomes)
    return _exit_status(args, report, strict_failed=bool(receipts.undelivered(receipt.outcomes)))


def _tokens() -> dict[str, str]:
    """The tokens on stdin, read after this process was closed to others of its user. Raises UsageError."""
    from cgroup_preflight.publish.secret import close_process, read_tokens

    close_process()
    return read_tokens(sys.stdin)


def _results(
    args: argparse.Namespace, forge: "Forge | None", given: "Options", secrets: "Sequence[Secret]"
) -> "Results":
    """The report of this job, or those of other jobs in one view, with those that are missing."""
    from cgroup_preflight.publish import reports
    from cgroup_preflight.publish.legs import absent, join
    from cgroup_preflight.publish.options import Results, view
    from cgroup_preflight.publish.origin import named
    from cgroup_preflight.report.merge import HOST, RUNNER

    root, expected = forge.root if forge else "", _expected(args.expect)
    origin = forge.origin(given.leg) if forge else None
    if args.hosts:
        legs = reports.read_fleet(_fleet_folder(args), _host_names(args.hosts), hide=secrets)
    else:
        legs = reports.read_legs(args.reports, hide=secrets, root=root, prefix=args.prefix, may_lack=bool(expected))
    if args.leg and len(legs) != 1:
        raise UsageError(f"--leg needs exactly one report, but there are {len(legs)}", where="--leg",
                         remedy=Remedy(title="leave out --leg to merge all reports"))  # fmt: skip
    made = legs[0].report.origin if len(legs) == 1 else None
    if len(legs) == 1 and not expected and (made is None or (origin is not None and made.id == origin.id)):
        name = args.leg or legs[0].name
        legs = (replace(legs[0], name=name, report=replace(legs[0].report, origin=origin or made)),)
    else:
        legs = join(legs)
        legs = named((*legs, *absent(legs, expected)))
    merged = view(legs, noun=HOST if args.hosts else RUNNER)
    report = replace(merged.report, origin=origin or merged.report.origin)
    return Results(legs=legs, merged=replace(merged, report=report), baseline=_baseline(args.baseline))


def _fleet_folder(args: argparse.Namespace) -> str:
    if len(args.reports) != 1 or args.expect:
        raise UsageError("--hosts needs one folder, and no --expect", where="--hosts",
                         remedy=Remedy(title="use --hosts FILE DIR, with the reports in DIR/HOST.json"))  # fmt: skip
    return str(args.reports[0])


def _host_names(path: str) -> tuple[str, ...]:
    """The names in a file, each once. Raises UsageError for none, and for one that leads out of the folder."""
    remedy = Remedy(title="write the name of one host on each line")
    try:
        with open(path, encoding="utf-8") as file:
            names = tuple(dict.fromkeys(filter(None, map(str.strip, file))))
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not text"
        raise UsageError(f"cannot read the names of the hosts: {reason}", where=path, remedy=remedy) from None
    if not names or any("/" in name or name in (".", "..") or "\0" in name for name in names):
        raise UsageError("these are not names of hosts", where=path, remedy=remedy)
    return names


def _expected(words: list[str]) -> "tuple[Expected, ...]":
    from cgroup_preflight.publish.legs import expected_of

    try:
        return expected_of(words)
    except (ValueError, AttributeError, RecursionError):
        raise UsageError("this begins as JSON and is not the context needs of GitHub", where="--expect",
                         remedy=Remedy(title="use ${{ toJSON(needs) }}, or names of jobs")) from None  # fmt: skip


def _say(line: str) -> None:
    options.write_stdout(f"{line}\n")


def arguments() -> argparse.ArgumentParser:
    """The options of the command."""
    parser = options.parser("publish", _ABOUT)
    add = parser.add_argument
    add("reports", nargs="*", metavar="REPORT.json", help="JSON reports, or folders of them")
    add("--provider", choices=("auto", "github", "gitlab", "none"), default="auto", help="default: auto")
    add("--publish", choices=("warn", "strict"), default="warn", dest="strictness",
        help="strict: exit with 5 if a channel failed or delivered only a part (default: warn)")  # fmt: skip
    add("--fail-on", choices=("never", "fail", "unverified"), default="never",
        help="exit with 1 on fail, or also with 3 on unverified (default: never)")  # fmt: skip
    add("--comment", choices=("auto", "always", "never"), default="auto",
        help="auto: a new comment only on fail, unverified or a change; an existing one is always updated")  # fmt: skip
    add("--check", choices=("on", "off"), default="on", help="GitHub: a check run with annotations (default: on)")
    add("--key", default="default", help=_KEY_HELP)
    add(
        "--leg",
        metavar="NAME",
        default="",
        help="name of this leg of a matrix for people; it must be unique unless --matrix tells the legs apart",
    )
    add("--matrix", metavar="TEXT", default="", help="the whole matrix of this leg, such as ${{ toJSON(matrix) }}")
    add("--position", metavar="I/N", default="", help="this leg is number I of the N legs of the job")
    add("--expect", metavar="WHAT", action="append", default=[],
        help="a job that must have reported, a number of reports, or GitHub's ${{ toJSON(needs) }}; "
        "what is missing is unverified, never a pass")  # fmt: skip
    add("--hosts", metavar="FILE", default="",
        help="the hosts of a fleet, one a line; the report of each is DIR/HOST.json, and a host without one that can "
        "be used is unverified")  # fmt: skip
    add("--baseline", metavar="FILE", default="", help="report of the target branch; a different result is a change")
    add("--prefix", metavar="DIR", default="", help="folder of the repository in which the reports were made")
    add(
        "--files",
        metavar="DIR",
        default="",
        help="folder for the report files (default on GitLab: cgroup-preflight-reports)",
    )
    add("--receipt", metavar="FILE", default="", help="write the receipt as JSON")
    add("--token-stdin", action="store_true",
        help="read lines NAME=TOKEN from stdin, with the names that they have in the environment, which other processes can read")  # fmt: skip
    add("--pull-request", metavar="N", default="",
        help="number from an artifact; used only if its head is the commit of the run")  # fmt: skip
    add("--commit", metavar="SHA", default="checkout",
        help="the commit that was tested: an id, checkout (default) for the one that is checked out here, or event if "
             "the reports come from other jobs of this run")  # fmt: skip
    add("--deadline", metavar="SECONDS", default="60", help="time for all requests to GitHub or GitLab (default: 60)")
    add("--dry-run", action="store_true", help="print the exact requests (method, path, JSON) and send nothing")
    add("--format", action="append", metavar="FORMAT=FILE", default=[], help="the merged report with the receipt in it")
    add("--output", metavar="FILE", default="", help="file for the one --format instead of stdout")
    return parser


def _options(args: argparse.Namespace) -> "Options":
    from cgroup_preflight.publish.comment_state import KEY
    from cgroup_preflight.publish.options import Options

    if not KEY.fullmatch(args.key):
        raise UsageError("this is not a valid key", where="--key", remedy=Remedy(title=_KEY_HELP))
    return Options(
        comment=args.comment, check=args.check == "on", key=args.key, leg=_leg(args), files=args.files,
        claimed=_number(args.pull_request), allow_unverified=args.fail_on == "fail",
        deadline=_seconds(args.deadline), ca_file=os.environ.get("CGROUP_PREFLIGHT_CA_FILE", ""), dry_run=args.dry_run,
    )  # fmt: skip


def _leg(args: argparse.Namespace) -> "LegId":
    from cgroup_preflight.publish.origin import LegId

    index = total = 0
    if args.position:
        found = re.fullmatch(r"([0-9]{1,4})/([0-9]{1,4})", args.position, re.ASCII)
        index, total = (int(found[1]), int(found[2])) if found else (0, 0)
        if not 1 <= index <= total:
            raise UsageError("this is not the position of a leg", where="--position",
                             remedy=Remedy(title="use a number from 1 on and the number of legs, such as 2/3"))  # fmt: skip
    return LegId(matrix=args.matrix, name=args.leg, folder=args.prefix, index=index, total=total)


def _number(text: str) -> int | None:
    """The number of a pull request. Anybody may have written the text, so the message does not repeat it."""
    if not text:
        return None
    if not re.fullmatch(r"[1-9][0-9]{0,9}", text.strip(), re.ASCII):
        raise UsageError("this is not the number of a pull request", where="--pull-request",
                         remedy=Remedy(title="use digits only, or leave out the option: the pull request is then looked up"))  # fmt: skip
    return int(text)


def _commit(text: str) -> str:
    from cgroup_preflight.publish.answers import sha_of

    if text not in ("checkout", "event") and not sha_of(text):
        raise UsageError("this is not a commit", where="--commit",
                         remedy=Remedy(title="use checkout, event, or all 40 or 64 hexadecimal digits of a commit id"))  # fmt: skip
    return text


def _seconds(text: str) -> float:
    if not re.fullmatch(r"[0-9]{1,4}(\.[0-9]{1,3})?s?", text, re.ASCII) or float(text.rstrip("s")) <= 0:
        raise UsageError(f"{text[:40]!r} is not a number of seconds", where="--deadline",
                         remedy=Remedy(title="use a number above 0, such as 60"))  # fmt: skip
    return float(text.rstrip("s"))


def _baseline(path: str) -> Report | None:
    """The report of the target branch; a missing file is no error, because the first run has none."""
    if not path or not os.path.exists(path):
        return None
    from cgroup_preflight.publish.reports import read_legs

    return read_legs([path])[0].report


def _outputs(args: argparse.Namespace) -> tuple[options.Rendering, ...]:
    """The formats of the command line only: no report goes to stdout by default, because the receipt is on the terminal."""
    if not args.format:
        return ()
    found = options.outputs(args.format, args.output)
    return found if any("=" not in word for word in args.format) else tuple(item for item in found if item.file)


def _write_formats(results: "Results", told: Report, wanted: tuple[options.Rendering, ...], *, fenced: bool) -> None:
    """Writes the formats; with `fenced` no line that goes to stdout can be a command to the runner."""
    import secrets

    for item in wanted:
        token = secrets.token_hex(16) if fenced and not item.file else ""
        if token:
            _say(f"::stop-commands::{token}")
        _write(results, told, item)
        if token:
            _say(f"\n::{token}::")


def _write(results: "Results", told: Report, item: options.Rendering) -> None:
    """Markdown has the table of the runners; the other formats show the merged report only."""
    if item.format != "markdown":
        options.deliver(told, (item,), verbose=False)
        return
    from cgroup_preflight.report import comment as comment_body

    text = comment_body.render(replace(results.merged, report=told), limit=_MARKDOWN_MAX)
    if item.file:
        options.write_text(Path(item.file), text)
    else:
        options.write_stdout(text)


def _write_receipt(path: str, outcomes: "list[Outcome]") -> None:
    import json

    from cgroup_preflight.publish.receipt import document

    options.write_text(Path(path), json.dumps(document(outcomes), indent=2, ensure_ascii=True) + "\n")


def _exit_status(args: argparse.Namespace, report: Report, *, strict_failed: bool) -> ExitStatus:
    """The status of the verdict with --fail-on; only if that is 0, a failed delivery can change it."""
    ignored = args.fail_on == "never"
    status = exit_status_of(report.verdict, allow_unverified=args.fail_on == "fail", exit_zero=ignored)
    if status is ExitStatus.PASS and strict_failed and args.strictness == "strict":
        return ExitStatus.NOT_DELIVERED
    return status
