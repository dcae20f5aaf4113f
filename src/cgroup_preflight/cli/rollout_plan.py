"""`rollout plan --snapshot`: what would change on recorded hosts, as one list of findings. Reads the recordings only."""

from collections.abc import Iterator, Sequence

from cgroup_preflight.cli import common
from cgroup_preflight.config.model import Config
from cgroup_preflight.core import codes
from cgroup_preflight.core.errors import ConfigError, HostError, UsageError
from cgroup_preflight.core.reading import value_or
from cgroup_preflight.core.records import TYPE_CHECKING
from cgroup_preflight.core.report import Finding, Remedy, Status
from cgroup_preflight.core.verdict import worst_of
from cgroup_preflight.report.merge import HOST, Leg, merge

if TYPE_CHECKING:
    from cgroup_preflight.host import snapshot

_AGAIN = Remedy(
    title="record the host again", commands=(("cgroup-preflight", "snapshot", "--slices", "-o", "host.json"),)
)


def recorded_findings(config: Config, paths: Sequence[str], engine: str) -> tuple[Finding, ...]:
    """The findings about all recordings, equal ones once, with the names of the hosts; a folder means its .json files.

    A recording that cannot be used is unverified, and named. Raises UsageError for no recording at all, and for a config
    that no host could follow.
    """
    from cgroup_preflight.host.json_files import json_files, leg_names

    files = json_files(paths)
    if not files:
        raise UsageError("there is no recording: the folder has no .json file", where="--snapshot", remedy=_AGAIN)
    legs, times = [], []
    for name, path in zip(leg_names(files), files, strict=True):
        findings, recorded_at = _of_host(config, path, engine)
        times.append(recorded_at)
        legs.append(Leg(name=name, report=common.report(common.start(), None, findings)))
    merged = merge(legs, worst_of(leg.report.verdict for leg in legs), noun=HOST)
    return (*merged.report.findings, _dates(times))


def _of_host(config: Config, path: str, engine: str) -> tuple[tuple[Finding, ...], str]:
    """The findings about one host, and when it was recorded."""
    from cgroup_preflight.host import snapshot

    try:
        fs, runner, recorded_at = snapshot.load_dated(path)
    except UsageError as error:
        return (_unusable(error.message),), ""
    try:
        return tuple(_planned(config, fs, runner, engine)), recorded_at
    except ConfigError as error:
        # What only the numbers of a host make a mistake: a percentage of its memory, for example.
        return error.findings, recorded_at
    except HostError as error:
        return (_unusable(f"{error.message} ({error.where})"),), recorded_at


def _planned(
    config: Config, fs: "snapshot.SnapshotFs", runner: "snapshot.SnapshotRunner", engine: str
) -> Iterator[Finding]:
    """Raises HostError where the recording lacks something, UsageError."""
    from cgroup_preflight.checks.numbers import numbers_of
    from cgroup_preflight.host.gather import gather
    from cgroup_preflight.rollout.prepare import prepare
    from cgroup_preflight.rollout.recorded import Recorded

    facts = gather(fs, runner)
    choice = common.context_of(facts, config, engine).engine
    numbers, cpus = numbers_of(facts), len(value_or(facts.online_cpus, frozenset()))
    if choice.name is None:
        yield _unusable(f"no service manager can change limits there: {choice.why_not or 'no cgroup v2'}")
    elif numbers is None or not cpus:
        yield _unusable("the recording does not have the CPUs, the memory or the number of tasks of the host")
    else:
        found = prepare(config, Recorded(facts, choice, fs, runner), numbers, cpus=cpus).findings
        yield from found
        if any(_lowers_memory(item) for item in found):
            yield codes.ROLLOUT_MEMORY.finding(
                Status.SKIP, "GOMEMLIMIT", "GOMEMLIMIT of running services is not in a recording; `rollout apply` reads it",
            )  # fmt: skip


def _lowers_memory(item: Finding) -> bool:
    name = str(item.evidence.get("property", ""))
    return name.startswith("Memory") and item.evidence.get("direction") == "down"


def _unusable(why: str) -> Finding:
    return codes.RUNNER_REPORTED.finding(
        Status.UNVERIFIED, "snapshot", f"nothing is known about this host: {why}", _AGAIN
    )


def _dates(times: Sequence[str]) -> Finding:
    """Old recordings cannot show what changed since; so the report says how old they are."""
    known = sorted(filter(None, times))
    count = "1 host" if len(times) == 1 else f"{len(times)} hosts"
    when = "at an unknown time" if not known else f"at {known[0]}"
    if known and known[0] != known[-1]:
        when = f"between {known[0]} and {known[-1]}"
    unknown = f", {len(times) - len(known)} at an unknown time" if known and len(known) < len(times) else ""
    return codes.ROLLOUT_PLAN.finding(
        Status.SKIP, "snapshots", f"{count} as recorded {when}{unknown}; later changes are not in the plan"
    )
