"""Reads the report files that the command line names.

The files may be the artifact of an untrusted job: only regular files are read, symbolic links are not followed, sizes
and counts are limited, and an error names the file and the place in it, never its content.
"""

import os
from collections.abc import Sequence
from dataclasses import replace

from cgroup_preflight.core.errors import UsageError
from cgroup_preflight.core.report import Remedy, Report
from cgroup_preflight.host.files import open_regular
from cgroup_preflight.host.json_files import json_files, leg_names
from cgroup_preflight.publish.legs import no_report
from cgroup_preflight.publish.receipt import without_receipt
from cgroup_preflight.publish.secret import Secret
from cgroup_preflight.report.escape import LOG_LINE_MAX
from cgroup_preflight.report.merge import Leg, rebase
from cgroup_preflight.report.read import ReportShapeError, report_of

#: Largest report, and largest sum of all reports, bytes. The report of one host has about 50 kB.
_FILE_MAX = 32 << 20
_TOTAL_MAX = 256 << 20
#: Most reports of one call.
_LEGS_MAX = 2000
_MAKE = Remedy(title="create a report", commands=(("cgroup-preflight", "run", "--format", "json=report.json"),))


def read_legs(
    paths: Sequence[str], *, hide: Sequence[Secret] = (), root: str = "", prefix: str = "", may_lack: bool = False
) -> tuple[Leg, ...]:
    """One leg for each report, in the order of `paths`; a folder means the .json files below it.

    A leg has the name of its report's origin, else one from its path. `hide` is removed from the reports. For `root` and
    `prefix` see `rebase`. Raises UsageError for a file that is no report, for no file at all unless they `may_lack`, and
    above the limits of this module.
    """
    files = json_files(path for path in paths if not may_lack or os.path.lexists(path))
    if not files and not may_lack:
        raise UsageError(
            "there is no report: no file was given, or the folder has no .json file", where="publish", remedy=_MAKE
        )
    if len(files) > _LEGS_MAX:
        raise UsageError(f"{len(files)} reports, but at most {_LEGS_MAX} are merged at once", where="publish",
                         remedy=Remedy(title="merge them in parts: cgroup-preflight publish --format json=part.json ..."))  # fmt: skip
    legs, total = [], 0
    for name, path in zip(leg_names(files), files, strict=True):
        report, size = read_report(path, hide)
        total += size
        if total > _TOTAL_MAX:
            raise UsageError(f"all reports together are larger than {_TOTAL_MAX >> 20} MiB", where=path, remedy=_MAKE)
        named = report.origin.name if report.origin else name
        legs.append(Leg(name=named, report=rebase(report, root=root, prefix=prefix)))
    return tuple(legs)


def read_fleet(folder: str, names: Sequence[str], *, hide: Sequence[Secret] = ()) -> tuple[Leg, ...]:
    """One leg for each host of a fleet, from `folder`/NAME.json.

    A host whose report is missing or cannot be used is unverified: it must not stop the others from being shown, and is
    never left out. Raises UsageError above the limits of this module.
    """
    if len(names) > _LEGS_MAX:
        raise UsageError(f"{len(names)} hosts, but at most {_LEGS_MAX} are merged at once", where="--hosts",
                         remedy=Remedy(title="merge them in parts, and then the parts"))  # fmt: skip
    legs, total = [], 0
    for name in names:
        path = os.path.join(folder, f"{name}.json")
        if not os.path.lexists(path):
            legs.append(no_report(name, "there is no report: the turn of this host did not come, or it gave none"))
            continue
        try:
            report, size = read_report(path, hide)
        except UsageError as error:
            legs.append(no_report(name, f"the report cannot be used: {error.message}"))
            continue
        total += size
        if total > _TOTAL_MAX:
            raise UsageError(f"all reports together are larger than {_TOTAL_MAX >> 20} MiB", where=path, remedy=_MAKE)
        legs.append(Leg(name=name, report=report))
    return tuple(legs)


def read_report(path: str, hide: Sequence[Secret] = ()) -> tuple[Report, int]:
    """A report without the receipt and without `hide`, and the size of its file in bytes. Raises UsageError."""
    data = _hidden(_read(path), hide)
    try:
        return _cut_hidden(without_receipt(report_of(data)), hide), len(data)
    except ReportShapeError as error:
        raise UsageError(f"this is not a report: {error}", where=path, remedy=_MAKE) from None


def _hidden(data: bytes, secrets: Sequence[Secret]) -> bytes:
    """A service that prints its environment writes a token into its log, and the report has the end of that log."""
    for item in secrets:
        if len(token := item.reveal().encode("ascii")) >= 6:
            data = data.replace(token, b"***")
    return data


def _cut_hidden(report: Report, secrets: Sequence[Secret]) -> Report:
    """A log line that was cut at its maximum length can end within a token: the part of the token is removed, too."""

    def clean(line: str) -> str:
        if len(line) == LOG_LINE_MAX:
            for token in (item.reveal() for item in secrets):
                cut = next((size for size in range(len(token) - 1, 5, -1) if line.endswith(token[:size])), 0)
                line = f"{line[:-cut]}***"[:LOG_LINE_MAX] if cut else line
        return line

    services = (replace(item, log_tail=tuple(map(clean, item.log_tail))) for item in report.services)
    return replace(report, services=tuple(services)) if secrets else report


def _read(path: str) -> bytes:
    try:
        # An artifact can contain a symbolic link to a file of this machine, or a pipe without an end.
        with open_regular(path, follow=False) as file:
            data = file.read(_FILE_MAX + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "not a file name"
        raise UsageError(f"cannot read the report: {reason}", where=path, remedy=_MAKE) from None
    if len(data) > _FILE_MAX:
        raise UsageError(f"larger than {_FILE_MAX >> 20} MiB", where=path, remedy=_MAKE)
    return data
