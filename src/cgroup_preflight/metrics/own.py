"""What the exporter says of itself: how old, how long, how many, and what went wrong."""

from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping

from cgroup_preflight import __version__
from cgroup_preflight.metrics.families import Family, number

INFO = Family(name="slice_exporter_build", kind="info", help="The version of cgroup-preflight.")
CGROUPS = Family(name="slice_exporter_cgroups", kind="gauge", help="Cgroups in the last snapshot.")
TIMESTAMP = Family(
    name="slice_exporter_snapshot_timestamp_seconds", kind="gauge",
    help="When the last snapshot ended, in seconds of the epoch: no value on this page is newer.",
)  # fmt: skip
DURATION = Family(
    name="slice_exporter_snapshot_duration_seconds", kind="histogram", help="How long the reading of a snapshot took."
)
ERRORS = Family(
    name="slice_exporter_read_errors_total", kind="counter",
    help="What could not be read or shown, by reason: the series of that cgroup or file are absent.",
)  # fmt: skip
COALESCED = Family(
    name="slice_exporter_events_coalesced_total", kind="counter",
    help="Reports of the kernel that were joined with others into one reading.",
)  # fmt: skip
LATENCY = Family(
    name="slice_exporter_event_latency_seconds", kind="histogram",
    help="From a kill to its counter on this page: by report from the kernel's report, by snapshot from the reading before (at most).",
)  # fmt: skip
OWN_FAMILIES = (INFO, CGROUPS, TIMESTAMP, DURATION, ERRORS, COALESCED, LATENCY)

#: `vanished`: the cgroup was removed; `deadline`: a scrape got the snapshot before; `overflow`: reports were lost.
REASONS = ("vanished", "denied", "failed", "malformed", "duplicate", "deadline", "overflow", "watch")
_DURATIONS = (0.005, 0.01, 0.02, 0.04, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
_LATENCIES = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Histogram:
    """Counts of observations by upper bound."""

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def observe(self, value: float) -> None:
        """Adds one observation."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value

    def lines(self, name: str, labels: str = "") -> str:
        """The samples of this histogram."""
        more, total, found = f"{labels}," if labels else "", 0, []
        for bound, count in zip((*map(_bound, self._bounds), "+Inf"), self._counts, strict=True):
            total += count
            found.append(f'{name}_bucket{{{more}le="{bound}"}} {total}\n')
        braces = f"{{{labels}}}" if labels else ""
        found.append(f"{name}_sum{braces} {self._sum:.6f}\n{name}_count{braces} {total}\n")
        return "".join(found)


def _bound(value: float) -> str:
    """OpenMetrics wants the canonical form: whole numbers have a point, too."""
    return repr(float(value))


class OwnMetrics:
    """The state of these metrics."""

    def __init__(self) -> None:
        self.durations = Histogram(_DURATIONS)
        self.latencies = {"report": Histogram(_LATENCIES), "snapshot": Histogram(_LATENCIES)}
        self.errors: Counter[str] = Counter()
        self.coalesced = 0

    def lines(self, *, cgroups: int, wall: float, errors: Mapping[str, int]) -> dict[str, str]:
        """The samples of each family, by its name; `errors` are those that others count."""
        every = Counter(errors) + self.errors
        latency = (found.lines(LATENCY.name, f'by="{by}"') for by, found in self.latencies.items())
        return {
            INFO.name: f'{INFO.name}_info{{version="{__version__}"}} 1\n',
            CGROUPS.name: f"{CGROUPS.name} {cgroups}\n",
            TIMESTAMP.name: f"{TIMESTAMP.name} {wall:.3f}\n",
            DURATION.name: self.durations.lines(DURATION.name),
            ERRORS.name: "".join(f'{ERRORS.name}{{reason="{reason}"}} {every[reason]}\n' for reason in REASONS),
            COALESCED.name: f"{COALESCED.name} {number(self.coalesced)}\n",
            LATENCY.name: "".join(latency),
        }
