"""The rungs that need no token and no network: report files, the job's summary and its outputs."""

import secrets
from collections.abc import Mapping
from pathlib import Path

from cgroup_preflight.core.errors import UsageError
from cgroup_preflight.host.files import write_file
from cgroup_preflight.publish.receipt import Delivery, Outcome

#: Largest summary of one step; above it GitHub shows none of it (docs, "Adding a job summary").
SUMMARY_MAX = 1 << 20
#: Least worth appending.
SUMMARY_MIN = 16_000


def write_files(folder: str, files: Mapping[str, str]) -> Outcome:
    """Each of `files` (name: text) below `folder`, which is made where it is missing."""
    channel = "report files"
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            path = Path(folder) / name
            write_file(str(path), text.encode("utf-8", "backslashreplace"))  # a link is replaced, not followed
    except (OSError, UsageError) as error:
        reason = error.message if isinstance(error, UsageError) else error.strerror
        return Outcome(channel=channel, delivery=Delivery.FAILED, detail=f"{folder}: {reason}",
                       hint="choose a folder that the job may write: --files DIR")  # fmt: skip
    return Outcome(channel=channel, delivery=Delivery.DELIVERED, detail=f"{', '.join(files)} in {folder}")


def summary_room(path: str) -> int:
    """Bytes that still fit into the summary file `path`; steps may have written to it before."""
    try:
        return SUMMARY_MAX - Path(path).stat().st_size - 1000
    except OSError:
        return SUMMARY_MAX - 1000


def append_summary(path: str, text: str) -> Outcome:
    """`text` at the end of the summary file; what is there already stays."""
    channel = "summary"
    try:
        with open(path, "a", encoding="utf-8", errors="backslashreplace") as file:
            file.write(f"\n{text}\n")
    except OSError as error:
        return Outcome(channel=channel, delivery=Delivery.FAILED, detail=error.strerror or "cannot be written")
    return Outcome(channel=channel, delivery=Delivery.DELIVERED, detail=f"{len(text.encode())} bytes appended")


def append_outputs(path: str, values: Mapping[str, str]) -> Outcome:
    """`values` as step outputs, each behind a delimiter that nobody can guess (GHSA-7r3h-m5j6-3q42)."""
    channel = "outputs"
    lines = []
    for name, value in values.items():
        delimiter = f"end-{secrets.token_hex(16)}"
        lines.append(f"{name}<<{delimiter}\n{value}\n{delimiter}\n")
    try:
        with open(path, "a", encoding="utf-8", errors="backslashreplace") as file:
            file.write("".join(lines))
    except OSError as error:
        return Outcome(channel=channel, delivery=Delivery.FAILED, detail=error.strerror or "cannot be written")
    return Outcome(channel=channel, delivery=Delivery.DELIVERED, detail=", ".join(values))
