"""A small tree of cgroups, and readings of it."""

import gc
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from ci.cgroup_tree import CgroupTree

from cgroup_preflight.metrics.door import LiveDoor
from cgroup_preflight.metrics.page import Page
from cgroup_preflight.metrics.readings import Readings
from cgroup_preflight.metrics.tree import Scope, Tree


class FakeClock:
    """CLOCK_MONOTONIC that moves when a test says so; each look takes a microsecond."""

    def __init__(self) -> None:
        self.ns = 1_000_000_000

    def __call__(self) -> int:
        self.ns += 1000
        return self.ns

    def forward(self, seconds: float) -> None:
        self.ns += int(seconds * 1e9)


@pytest.fixture(autouse=True)
def closed_cgroups() -> Iterator[None]:
    """Ends what a reader left open of the test's cgroups: a reader lives as long as its program.

    All tests together would have more than the 1024 files that select(2) can wait for.
    """
    yield
    gc.unfreeze()
    gc.collect()


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def cgroups(tmp_path: Path) -> CgroupTree:
    """`a.slice` with two services, an empty `b.slice`, a nested slice, and a user's manager with a slice of its own."""
    top = tmp_path / "cgroup"
    top.mkdir()
    tree = CgroupTree(top)
    for path in (
        "/a.slice", "/a.slice/one.service", "/a.slice/two.service", "/a.slice/a-n.slice", "/a.slice/a-n.slice/three.service",
        "/b.slice", "/init.scope", "/user.slice", "/user.slice/user-1000.slice",
        "/user.slice/user-1000.slice/user@1000.service", "/user.slice/user-1000.slice/user@1000.service/a.slice",
    ):  # fmt: skip
        tree.add(path)
    return tree


def readings_of(cgroups: CgroupTree, clock: Callable[[], int], scope: Scope | None = None) -> Readings:
    scope = scope or Scope()
    tree = Tree(LiveDoor(str(cgroups.top)), scope, clock)
    return Readings(tree, Page(4, scope.covers), clock=clock)


@pytest.fixture
def readings(cgroups: CgroupTree, clock: FakeClock) -> Readings:
    return readings_of(cgroups, clock)
