"""The files that GitHub's runner reads after a step: the job summary and the step's outputs. They need no token."""

import secrets
from collections.abc import Mapping
from pathlib import Path

from cgroup_preflight.publish.receipt import Delivery, Outcome

#: Largest summary of one step, bytes; GitHub shows nothing of a larger one (docs, "Adding a job summary").
_SUMMARY_MAX = 1 << 20
_RESERVE = 1000
#: Least room for which a summary is worth writing, bytes.
SUMMARY_MIN = 16_000


def summary_room(path: str) -> int:
    """Bytes that still fit into the summary file `path`; earlier commands of the step may have written to it."""
    try:
        return _SUMMARY_MAX - Path(path).stat().st_size - _RESERVE
    except OSError:
        return _SUMMARY_MAX - _RESERVE


def append_summary(path: str, text: str) -> Outcome:
    """Appends `text` to the summary file `path`."""
    return _append("summary", path, f"\n{text}\n", f"{len(text.encode(errors='backslashreplace'))} bytes appended")


def append_outputs(path: str, values: Mapping[str, str]) -> Outcome:
    """Appends `values` as outputs of the step, each with a delimiter that nobody can guess (GHSA-7r3h-m5j6-3q42)."""
    lines = []
    for name, value in values.items():
        delimiter = f"end-{secrets.token_hex(16)}"
        lines.append(f"{name}<<{delimiter}\n{value}\n{delimiter}\n")
    return _append("outputs", path, "".join(lines), ", ".join(values))


def _append(channel: str, path: str, text: str, done: str) -> Outcome:
    try:
        with open(path, "a", encoding="utf-8", errors="backslashreplace") as file:
            file.write(text)
    except OSError as error:
        return Outcome(channel=channel, delivery=Delivery.FAILED, detail=f"cannot write the file: {error.strerror}")
    return Outcome(channel=channel, delivery=Delivery.DELIVERED, detail=done)
