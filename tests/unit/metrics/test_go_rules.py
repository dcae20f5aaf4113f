"""Rules G1 to G3: the kernel, the process itself, or others; and what is no answer."""

from typing import Any

from cgroup_preflight.metrics.contention import judge
from cgroup_preflight.metrics.go_delays import GoDelays, Slot
from tests.unit.metrics.windows import group, series

_QUOTA = {"quota": 0.5, "periods": 100, "throttled": 98, "throttled_cpus": 1.5}


def _delays(waiting: float, running: float, p99: float, silent: float = 0.0, **values: Any) -> GoDelays:
    """The same in each tenth of a second; `waiting` and `running` are goroutines on average."""
    slots = {n: Slot(waiting=waiting / 10, running=running / 10, silent=silent) for n in range(1000, 1101)}
    usual = {"path": "/a.service", "source": "own reader", "begin": 100.0, "end": 110.0, "count": 500, "median": p99 / 4,
             "p99": p99, "longest": p99 * 2, "procs": 4, "whole": True, "slots": slots}  # fmt: skip
    return GoDelays(**{**usual, **values})


def _answers(tree: Any, delays: GoDelays) -> list[tuple[str, str, str]]:
    found = judge(tree, (), (delays,)).diagnoses
    return [(item.rule, item.cause, item.confidence.value) for item in found if item.rule.startswith("G")]


def test_delays_in_the_same_time_as_throttling_confirm_the_kernel() -> None:
    tree = series(group("/a.service", 0.5, 0.9, local_cpus=1.5, **_QUOTA))
    assert _answers(tree, _delays(3.0, 0.5, 0.12)) == [("G1", "/a.service", "high")]


def test_goroutines_that_have_a_p_but_no_cpu_confirm_the_kernel_too() -> None:
    """As many goroutines as GOMAXPROCS: none waits for a P, and all of them stop while they run."""
    tree = series(group("/a.service", 0.5, 0.9, local_cpus=1.5, **_QUOTA))
    assert _answers(tree, _delays(0.0, 2.0, 0.001)) == [("G1", "/a.service", "high")]


def test_delays_of_another_part_of_the_time_confirm_less() -> None:
    tree = series(group("/a.service", 0.5, 0.9, local_cpus=1.5, **_QUOTA))
    slots = {n: Slot(waiting=0.6 if n < 1020 else 0.0, running=0.05) for n in range(1000, 1101)}
    assert _answers(tree, _delays(0, 0, 0.12, slots=slots)) == [("G1", "/a.service", "medium")]


def test_gomaxprocs_that_is_too_low_is_named_with_a_value() -> None:
    tree = series(group("/a.service", 1.0, 0.01))
    found = judge(tree, (), (_delays(2.3, 0.99, 0.19, procs=1),)).diagnoses
    assert [(item.rule, item.confidence.value) for item in found] == [("G2", "high")]
    assert found[0].remedies[0].title.startswith("set Environment=GOMAXPROCS=4 for its unit")
    # A quota above leaves less room.
    tree = series(group("/s.slice", 1.0, 0.0, quota=2.0), group("/s.slice/a.service", 1.0, 0.01))
    found = judge(tree, (), (_delays(2.3, 0.99, 0.19, procs=1, path="/s.slice/a.service"),)).diagnoses
    assert "GOMAXPROCS=2" in found[0].remedies[0].title


def test_delays_without_busy_threads_are_inside_the_process_and_less_sure() -> None:
    tree = series(group("/a.service", 1.0, 0.01))
    assert _answers(tree, _delays(2.0, 1.0, 0.19, procs=4)) == [("G2", "/a.service", "medium")]


def test_a_program_that_fills_the_host_is_not_told_that_gomaxprocs_is_too_low() -> None:
    tree = series(group("/a.service", 4.0, 0.02), busy=1.0)
    found = judge(tree, (), (_delays(6.0, 4.0, 0.19),)).diagnoses
    assert [(item.rule, item.confidence.value) for item in found] == [("G2", "medium")]
    assert "busy with its own work" in found[0].message


def test_others_of_the_cgroup_wait() -> None:
    tree = series(group("/a.service", 2.0, 0.4))
    assert _answers(tree, _delays(0.01, 0.3, 0.001)) == [("G3", "/a.service", "high")]


def test_neither_is_said_where_the_numbers_do_not_agree() -> None:
    """Tasks wait for a CPU without a quota, and goroutines too: that can be anybody's fault."""
    assert _answers(series(group("/a.service", 2.0, 0.4)), _delays(2.0, 1.9, 0.19)) == []
    assert _answers(series(group("/a.service", 2.0, 0.01)), _delays(0.0, 1.9, 0.001)) == []


def test_throttling_with_calm_goroutines_is_hardly_an_accusation_of_others() -> None:
    tree = series(group("/a.service", 0.5, 0.9, local_cpus=1.5, **_QUOTA))
    assert _answers(tree, _delays(0.0, 0.4, 0.001)) == [("G3", "/a.service", "low")]


def test_a_trace_of_another_time_or_cgroup_says_nothing() -> None:
    tree = series(group("/a.service", 1.0, 0.01))
    assert _answers(tree, _delays(2.3, 0.99, 0.19, begin=200.0, end=210.0)) == []
    assert _answers(tree, _delays(2.3, 0.99, 0.19, path="/b.service")) == []


def test_without_pressure_a_cause_inside_is_less_sure() -> None:
    tree = series(group("/a.service", 1.0, None), pressure=False)
    assert _answers(tree, _delays(2.3, 0.99, 0.19, procs=1)) == [("G2", "/a.service", "medium")]
