"""The chain of limits: the tightest of all levels, and whose it is."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cgroup_preflight.core.limits import Chain, Level
from cgroup_preflight.core.quantities import QuantityError, parse_span

NUMBERS = st.lists(st.none() | st.integers(1, 1 << 40), max_size=5)


def chain(name: str, numbers: list[int | None]) -> Chain:
    return Chain(levels=tuple(Level(name=str(at), **{name: value}) for at, value in enumerate(numbers)))


@pytest.mark.parametrize(
    ("field", "tightest"),
    [("cpus", Chain.cpus), ("memory_max", Chain.memory_max), ("memory_high", Chain.memory_high),
     ("swap_max", Chain.swap_max), ("tasks_max", Chain.tasks)],
)  # fmt: skip
@given(numbers=NUMBERS)
def test_the_smallest_number_wins_and_of_equal_ones_the_innermost(field, tightest, numbers):
    value, level = tightest(chain(field, numbers))
    given = [item for item in numbers if item is not None]
    assert value == min(given, default=None)
    assert (None if level is None else level.name) == (str(numbers.index(min(given))) if given else None)


def test_memory_high_can_be_tighter_than_memory_max():
    levels = (Level(name="a.service", memory_max=64, memory_high=32), Level(name="a.slice", memory_max=48))
    value, level, word = Chain(levels=levels).memory()
    assert (value, level, word) == (32, levels[0], "MemoryHigh")
    assert Chain(levels=levels[1:]).memory() == (48, levels[1], "MemoryMax")
    assert Chain(levels=()).memory() == (None, None, "")


def test_the_leaf_is_the_first_level():
    levels = (Level(name="a.service"), Level(name="a.slice"))
    assert Chain(levels=levels).leaf is levels[0]
    assert Chain(levels=()).leaf == Level(name="")


@pytest.mark.parametrize(("own", "above", "left"), [({0, 1}, {1, 2}, {1}), ({0}, {1}, {1}), (None, {1}, {1})])
def test_each_level_narrows_the_cpus_unless_none_would_be_left(own, above, left):
    levels = (Level(name="a.service", allowed_cpus=own and frozenset(own)),
              Level(name="a.slice", allowed_cpus=frozenset(above)))  # fmt: skip
    found = Chain(levels=levels).affinity(frozenset(range(4)))
    assert found == (frozenset(left) if own != {0} else frozenset({1}))
    assert Chain(levels=(Level(name="x"),)).allowed_cpus() is None


def test_the_longest_time_span_of_systemd():
    most = (1 << 63) - 1
    assert parse_span(f"{most}us") == most
    with pytest.raises(QuantityError, match="out of range"):
        parse_span(f"{most + 1}us")
