"""`cgroup-preflight publish`: reports to the pull or merge request."""

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
from cgroup_preflight.publish.clock import Clock, Outside

if TYPE_CHECKING:
    from cgroup_preflight.publish.forges import Place
    from cgroup_preflight.publish.options import Load, Wishes
    from cgroup_preflight.publish.receipt import Outcome

_ABOUT = """\
Sends one report, or many merged into one, to the pull or merge request that this job is about, and says what
arrived where. The forge is told from the environment; without one it merges: --format markdown=all.md

    cgroup-preflight run --format json=report.json
    cgroup-preflight publish report.json
    cgroup-preflight publish reports/ --format json=all.json     (the .json files below a folder)

Tokens come from the environment only: CGROUP_PREFLIGHT_GITHUB_TOKEN, GITHUB_TOKEN, GH_TOKEN;
CGROUP_PREFLIGHT_GITLAB_TOKEN, GITLAB_TOKEN, CI_JOB_TOKEN. Delivery never changes the verdict; without
--fail-on the exit status is 0 whatever the verdict is, since the job that made the report has said it.
"""
#: Of `--format markdown`: a file for people, bytes.
_MARKDOWN_MAX = 1_000_000
_KEY_HELP = "tells apart several results on one request: letters, digits, '.', '_', '-'"


def main(words: list[str]) -> int:
    """The command. Raises UsageError."""
    return run(words, Clock())


def run(words: list[str], clock: Clock) -> int:
    """The command, with `clock` for all that waits. Raises UsageError."""
    args = _parser().parse_args(words)
    wanted = _outputs(args)
    from cgroup_preflight.publish import forges, reports
    from cgroup_preflight.publish import receipt as receipts
    from cgroup_preflight.publish.options import Load, view
    from cgroup_preflight.publish.secret import redact

    place = forges.detect(os.environ, args.provider)
    secrets = forges.secrets_of(os.environ)
    legs = reports.read_legs(args.reports, hide=secrets, name=args.leg, root=place.root, prefix=args.prefix)
    if args.leg and len(legs) != 1:
        raise UsageError(f"--leg goes with one report, not with {len(legs)}", where="--leg",
                         remedy=Remedy(title="leave --leg out: many reports are merged"))  # fmt: skip
    if args.leg:
        legs = (replace(legs[0], attempt=_attempt(place)),)
    load = Load(legs=legs, merged=view(legs), baseline=_baseline(args.baseline))
    receipt = forges.climb(
        place, load, _wishes(args), Outside(say=_say, clock=clock), hide=lambda text: redact(text, secrets)
    )
    sys.stderr.write("".join(f"{line}\n" for line in receipts.lines(receipt.outcomes)))
    report = load.merged.report
    _deliver(load, receipts.with_receipt(report, receipt.outcomes), wanted, commands=place.github is not None)
    if args.receipt:
        _write_receipt(args.receipt, receipt.outcomes)
    return _exit_status(args, report, strict_failed=bool(receipts.undelivered(receipt.outcomes)))


def _say(line: str) -> None:
    options.write_stdout(f"{line}\n")


def _parser() -> argparse.ArgumentParser:
    parser = options.parser("publish", _ABOUT)
    add = parser.add_argument
    add("reports", nargs="+", metavar="REPORT.json", help="JSON reports, or folders of them")
    add("--provider", choices=("auto", "github", "gitlab", "none"), default="auto", help="default: auto")
    add("--publish", choices=("warn", "strict"), default="warn", dest="strictness",
        help="strict: exit with 5 where something could not be delivered (default: warn)")  # fmt: skip
    add("--fail-on", choices=("never", "fail", "unverified"), default="never",
        help="exit with the verdict's status, too: on fail, or also on unverified (default: never)")  # fmt: skip
    add("--comment", choices=("auto", "always", "never"), default="auto",
        help="auto: a new comment only on a fail, an unverified or a change; an old one is always updated")  # fmt: skip
    add("--check", choices=("on", "off"), default="on", help="GitHub: a check run with annotations (default: on)")
    add("--key", default="default", help=_KEY_HELP)
    add("--leg", metavar="NAME", default="", help="this leg of a matrix publishes for itself, into the common comment")
    add("--baseline", metavar="FILE", default="", help="report of the target branch: what differs from it is a change")
    add("--prefix", metavar="DIR", default="", help="folder of the repository in which the reports were made")
    add("--files", metavar="DIR", default="", help="where report files go (GitLab's default: cgroup-preflight-reports)")
    add("--receipt", metavar="FILE", default="", help="writes what arrived where, as JSON")
    add("--pull-request", metavar="N", default="",
        help="number out of an artifact; believed only if its head is the run's")  # fmt: skip
    add("--deadline", metavar="SECONDS", default="60", help="for everything that waits for the forge (default: 60)")
    add("--dry-run", action="store_true", help="print the exact requests (method, path, JSON) and send nothing")
    add("--format", action="append", metavar="FORMAT=FILE", default=[], help="the merged report with the receipt in it")
    add("--output", metavar="FILE", default="", help="where the one --format goes instead of stdout")
    return parser


def _wishes(args: argparse.Namespace) -> "Wishes":
    from cgroup_preflight.publish.comment_state import KEY
    from cgroup_preflight.publish.options import Wishes

    if not KEY.fullmatch(args.key):
        raise UsageError("that is not a key", where="--key", remedy=Remedy(title=_KEY_HELP))
    return Wishes(
        comment=args.comment, check=args.check == "on", key=args.key, leg=args.leg, files=args.files,
        claimed=_number(args.pull_request), allow_unverified=args.fail_on == "fail",
        deadline=_seconds(args.deadline), ca_file=os.environ.get("CGROUP_PREFLIGHT_CA_FILE", ""), dry_run=args.dry_run,
    )  # fmt: skip


def _number(text: str) -> int | None:
    """A request's number. The text is anybody's, so it is not repeated in the message."""
    if not text:
        return None
    if not re.fullmatch(r"[1-9][0-9]{0,9}", text.strip(), re.ASCII):
        raise UsageError("that is not a number of a pull request", where="--pull-request",
                         remedy=Remedy(title="give digits only, or leave it out: it is looked up then"))  # fmt: skip
    return int(text)


def _seconds(text: str) -> float:
    if not re.fullmatch(r"[0-9]{1,4}(\.[0-9]{1,3})?s?", text, re.ASCII) or float(text.rstrip("s")) <= 0:
        raise UsageError(f"{text[:40]!r} is not a number of seconds", where="--deadline",
                         remedy=Remedy(title="use a number above 0, such as 60"))  # fmt: skip
    return float(text.rstrip("s"))


def _attempt(place: "Place") -> int:
    job = place.github or place.gitlab
    return job.run.attempt if job else 0


def _baseline(path: str) -> Report | None:
    """The target branch's report; one that is not there yet is no mistake of the caller's."""
    if not path or not os.path.exists(path):
        return None
    from cgroup_preflight.publish.reports import read_legs

    return read_legs([path])[0].report


def _outputs(args: argparse.Namespace) -> tuple[options.Output, ...]:
    """What was asked for and no more: the terminal has the receipt, so no text goes there by itself."""
    if not args.format:
        return ()
    found = options.outputs(args.format, args.output)
    return found if any("=" not in word for word in args.format) else tuple(item for item in found if item.file)


def _deliver(load: "Load", told: Report, wanted: tuple[options.Output, ...], *, commands: bool) -> None:
    """Writes the formats; what goes to a log where `commands` are looked for is fenced off from them."""
    import secrets

    for item in wanted:
        token = secrets.token_hex(16) if commands and not item.file else ""
        if token:
            _say(f"::stop-commands::{token}")
        _write(load, told, item)
        if token:
            _say(f"\n::{token}::")


def _write(load: "Load", told: Report, item: options.Output) -> None:
    """Markdown has the table of the runners; the other formats know one report only."""
    if item.format != "markdown":
        options.deliver(told, (item,), verbose=False)
        return
    from cgroup_preflight.report import comment as comment_body

    text = comment_body.render(replace(load.merged, report=told), limit=_MARKDOWN_MAX)
    if item.file:
        options.write_file(Path(item.file), text)
    else:
        options.write_stdout(text)


def _write_receipt(path: str, outcomes: "list[Outcome]") -> None:
    import json

    from cgroup_preflight.publish.receipt import document

    options.write_file(Path(path), json.dumps(document(outcomes), indent=2, ensure_ascii=True) + "\n")


def _exit_status(args: argparse.Namespace, report: Report, *, strict_failed: bool) -> ExitStatus:
    """The verdict's where it was asked for; only where that is 0 does delivery have a say."""
    ignored = args.fail_on == "never"
    status = exit_status_of(report.verdict, allow_unverified=args.fail_on == "fail", exit_zero=ignored)
    if status is ExitStatus.PASS and strict_failed and args.strictness == "strict":
        return ExitStatus.NOT_DELIVERED
    return status
