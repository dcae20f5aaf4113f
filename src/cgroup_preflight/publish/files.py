"""The channel that needs no token and no network: report files in a folder."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from cgroup_preflight.core.errors import UsageError
from cgroup_preflight.host.files import write_file
from cgroup_preflight.publish.receipt import Delivery, Outcome, with_receipt
from cgroup_preflight.report import codec, codequality, junit
from cgroup_preflight.report import comment as comment_body
from cgroup_preflight.report.merge import Merged

_MARKDOWN_MAX = 200_000


def report_files(merged: Merged, links: Mapping[str, str]) -> dict[str, str]:
    """Name and text of every file that `artifacts:reports` of a CI template reads, and of the report itself.

    `links` has addresses by name for the page of the job.
    """
    return {
        "junit.xml": junit.render(merged.report),
        "codequality.json": codequality.render(merged.report),
        "annotations.json": codequality.annotations(merged, dict(links)),
        "preflight.env": codequality.dotenv(merged),
        "report.md": comment_body.render(merged, limit=_MARKDOWN_MAX),
        **merged_file(merged),
    }


def merged_file(merged: Merged, outcomes: Iterable[Outcome] = ()) -> dict[str, str]:
    """Name and text of the report itself, with the receipt so far."""
    return {"merged.json": codec.render(with_receipt(merged.report, outcomes))}


def write_files(folder: str, files: Mapping[str, str]) -> Outcome:
    """Writes `files` (text by name) into `folder`, and makes the folder if it is missing."""
    channel = "report files"
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            path = Path(folder) / name
            write_file(str(path), text.encode("utf-8", "backslashreplace"))  # a link is replaced, not followed
    except (OSError, UsageError) as error:
        reason = error.message if isinstance(error, UsageError) else error.strerror
        return Outcome(channel=channel, delivery=Delivery.FAILED, detail=f"{folder}: {reason}",
                       hint="choose a folder that the job can write: --files DIR")  # fmt: skip
    return Outcome(channel=channel, delivery=Delivery.DELIVERED, detail=f"{', '.join(files)} in {folder}")
