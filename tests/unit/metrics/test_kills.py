"""OOM kills stay counted when the cgroup of the unit goes, and are given to a unit only where that is sure."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cgroup_preflight.metrics.kills import Ledger, Removals
from cgroup_preflight.metrics.samples import Sample, Snapshot

S, U, V = "/a.slice", "/a.slice/u.service", "/a.slice/v.service"


class Kernel:
    """Counts kills as the kernel does: in the cgroup and in all above it, which keep them when it is removed."""

    def __init__(self) -> None:
        self.counts: dict[str, int] = {"": 0}
        self.ids: dict[str, int] = {}
        self.truth: Counter[str] = Counter()
        self._next = 1
        self._samples: dict[str, Sample] = {}

    def create(self, *paths: str) -> None:
        for path in paths:
            self.counts[path], self.ids[path] = 0, self._next
            self._next += 1

    def remove(self, path: str) -> None:
        del self.counts[path], self.ids[path]

    def kill(self, path: str, times: int = 1) -> None:
        self.truth[path] += times
        parts = path.split("/")
        for end in range(len(parts), 1, -1):
            self.counts["/".join(parts[:end])] += times

    def snapshot(self, ns: int) -> Snapshot:
        now = {
            path: Sample(
                cgroup=path, cgroup_id=number, stamp_ns=ns,
                files={"memory.events": f"oom 9\noom_kill {self.counts[path]}\n".encode()},
            )
            for path, number in self.ids.items()
        }  # fmt: skip
        paths = now.keys() | self._samples.keys()
        changed = {path: {"memory.events"} for path in paths if _key(now.get(path)) != _key(self._samples.get(path))}
        self._samples = now
        return Snapshot(started_ns=ns, stamp_ns=ns + 1, wall=0.0, samples=now, errors={}, changed=changed)


def _key(sample: Sample | None) -> object:
    return sample and (sample.cgroup_id, sample.files["memory.events"])


@pytest.fixture
def kernel() -> Kernel:
    kernel = Kernel()
    kernel.create(S, U, V)
    return kernel


@pytest.fixture
def removals() -> Removals:
    return Removals()


@pytest.fixture
def ledger(removals: Removals, kernel: Kernel) -> Ledger:
    ledger = Ledger(removals)
    ledger.update(kernel.snapshot(100))
    removals.watch(S, 150)
    ledger.update(kernel.snapshot(200))
    return ledger


def test_kills_of_a_unit_that_stays(ledger: Ledger, kernel: Kernel) -> None:
    kernel.kill(U, 2)
    assert ledger.update(kernel.snapshot(300)) == {U}
    assert ledger.kills == {U: 2}
    assert ledger.update(kernel.snapshot(400)) == set()


def test_kills_before_the_first_snapshot_do_not_count(kernel: Kernel, removals: Removals) -> None:
    kernel.kill(U, 5)
    ledger = Ledger(removals)
    ledger.update(kernel.snapshot(100))
    kernel.kill(U)
    ledger.update(kernel.snapshot(200))
    assert ledger.kills == {U: 1}


def test_a_unit_that_is_started_again_keeps_its_kills(ledger: Ledger, kernel: Kernel, removals: Removals) -> None:
    for round_ in range(20):
        kernel.kill(U)
        kernel.remove(U)
        removals.add(S, "u.service", 250 + 100 * round_)
        kernel.create(U)
        ledger.update(kernel.snapshot(300 + 100 * round_))
    assert ledger.kills == {U: 20}


def test_several_kills_and_starts_between_two_snapshots(ledger: Ledger, kernel: Kernel, removals: Removals) -> None:
    for _ in range(20):
        kernel.kill(U)
        kernel.remove(U)
        removals.add(S, "u.service", 250)
        kernel.create(U)
    kernel.kill(U)
    assert ledger.update(kernel.snapshot(300)) == {U}
    assert ledger.kills == {U: 21}


def test_a_unit_that_nobody_has_seen(ledger: Ledger, kernel: Kernel, removals: Removals) -> None:
    kernel.create(f"{S}/short.scope")
    kernel.kill(f"{S}/short.scope")
    kernel.remove(f"{S}/short.scope")
    removals.add(S, "short.scope", 250)
    assert ledger.update(kernel.snapshot(300)) == {f"{S}/short.scope"}
    assert ledger.kills == {f"{S}/short.scope": 1}


@pytest.mark.parametrize("others", [["v.service"], ["a-n.slice"]])
def test_where_two_could_be_meant_nobody_is(
    ledger: Ledger, kernel: Kernel, removals: Removals, others: list[str]
) -> None:
    kernel.kill(U)
    kernel.remove(U)
    kernel.create(U)
    for name in ["u.service", *others]:
        removals.add(S, name, 250)
    assert ledger.update(kernel.snapshot(300)) == {S}
    assert ledger.kills == {S: 1}


def test_a_slice_that_was_removed_is_no_unit(ledger: Ledger, kernel: Kernel, removals: Removals) -> None:
    kernel.create(f"{S}/a-n.slice", f"{S}/a-n.slice/x.service")
    kernel.kill(f"{S}/a-n.slice/x.service")
    kernel.remove(f"{S}/a-n.slice/x.service")
    kernel.remove(f"{S}/a-n.slice")
    removals.add(S, "a-n.slice", 250)
    ledger.update(kernel.snapshot(300))
    assert ledger.kills == {S: 1}


def test_without_a_watch_or_after_lost_reports_nobody_is_meant(kernel: Kernel, removals: Removals) -> None:
    ledger = Ledger(removals)
    ledger.update(kernel.snapshot(100))
    kernel.kill(U)
    kernel.remove(U)
    kernel.create(U)
    removals.add(S, "u.service", 150)
    ledger.update(kernel.snapshot(200))
    assert ledger.kills == {S: 1}
    removals.watch(S, 250)
    ledger.update(kernel.snapshot(300))
    kernel.kill(U)
    kernel.remove(U)
    kernel.create(U)
    removals.lost()
    removals.add(S, "u.service", 350)
    ledger.update(kernel.snapshot(400))
    assert ledger.kills == {S: 2}


def test_a_removal_long_ago_does_not_count(ledger: Ledger, kernel: Kernel, removals: Removals) -> None:
    removals.add(S, "v.service", 190)
    kernel.kill(U)
    kernel.remove(U)
    kernel.create(U)
    removals.add(S, "u.service", 250)
    ledger.update(kernel.snapshot(300))
    assert ledger.kills == {U: 1}
    removals.drop(1000)
    assert removals.only(S, 240) == ""


def test_a_kill_that_the_slice_does_not_show_yet_is_not_counted_twice(ledger: Ledger, kernel: Kernel) -> None:
    kernel.kill(U)
    late = kernel.snapshot(300)
    # The slice was read before the kill, the unit after it.
    early = {**late.samples, S: Sample(cgroup=S, cgroup_id=1, stamp_ns=299, files={"memory.events": b"oom_kill 0\n"})}
    ledger.update(Snapshot(started_ns=299, stamp_ns=300, wall=0.0, samples=early, errors={}, changed=late.changed))
    assert ledger.kills == {U: 1}
    after = kernel.snapshot(400)
    ledger.update(
        Snapshot(started_ns=400, stamp_ns=401, wall=0, samples=after.samples, errors={}, changed={S: {"memory.events"}})
    )
    assert ledger.kills == {U: 1}


def test_a_unit_that_stays_away_is_forgotten_after_an_hour(ledger: Ledger, kernel: Kernel) -> None:
    kernel.kill(U)
    ledger.update(kernel.snapshot(300))
    kernel.remove(U)
    ledger.update(kernel.snapshot(400))
    assert ledger.kills == {U: 1}
    ledger.update(kernel.snapshot(3_500 * 10**9))
    assert ledger.kills == {U: 1}
    ledger.update(kernel.snapshot(3_700 * 10**9))
    assert ledger.kills == {}


def test_endless_new_units_do_not_fill_the_memory(ledger: Ledger, kernel: Kernel, removals: Removals) -> None:
    for number in range(3000):
        path = f"{S}/run-{number}.scope"
        kernel.create(path)
        kernel.kill(path)
        kernel.remove(path)
        removals.add(S, f"run-{number}.scope", 300 + 10 * number)
        ledger.update(kernel.snapshot(301 + 10 * number))
        removals.drop(300 + 10 * number)
    assert len(ledger.kills) <= 1001
    assert ledger.kills[f"{S}/run-2999.scope"] == 1
    ledger.update(kernel.snapshot(10**15))
    assert ledger.kills == {}


def test_endless_new_units_without_kills_cost_no_other_unit_its_kills(ledger: Ledger, kernel: Kernel) -> None:
    """As on a host where somebody logs in again and again: each session is a scope of its own."""
    kernel.kill(U)
    ledger.update(kernel.snapshot(300))
    kernel.remove(U)
    ledger.update(kernel.snapshot(310))
    for number in range(1200):
        kernel.create(f"{S}/session-{number}.scope")
        ledger.update(kernel.snapshot(320 + 20 * number))
        kernel.remove(f"{S}/session-{number}.scope")
        ledger.update(kernel.snapshot(330 + 20 * number))
    assert ledger.kills == {U: 1}


_STEPS = st.lists(
    st.tuples(
        st.sampled_from(["kill", "restart", "read", "start other", "stop other", "lost"]), st.sampled_from([U, V])
    )
)


@settings(max_examples=300, deadline=None)
@given(_STEPS)
def test_no_kill_is_lost_counted_twice_or_given_to_the_wrong_unit(steps: list[tuple[str, str]]) -> None:
    kernel, removals = Kernel(), Removals()
    kernel.create(S, U, V)
    ledger = Ledger(removals)
    ledger.update(kernel.snapshot(0))
    removals.watch(S, 1)
    ledger.update(kernel.snapshot(2))
    now = 10
    for step, path in [*steps, ("read", U)]:
        now += 10
        if step == "kill":
            kernel.kill(path)
        elif step == "restart":
            kernel.remove(path)
            removals.add(S, path.rpartition("/")[2], now)
            kernel.create(path)
        elif step == "lost":
            removals.lost()
        elif step == "read":
            ledger.update(kernel.snapshot(now))
        other = f"{S}/other.scope"
        if step == "start other" and other not in kernel.ids:
            kernel.create(other)
            kernel.kill(other)
        if step == "stop other" and other in kernel.ids:
            kernel.remove(other)
            removals.add(S, "other.scope", now)
    assert sum(ledger.kills.values()) == sum(kernel.truth.values())
    assert all(ledger.kills[path] <= kernel.truth[path] for path in ledger.kills if path != S)
