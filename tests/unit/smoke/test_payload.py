"""The program that pushes against limits, where there are none: it must do what it was asked for, and leave nothing."""

import ast
import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from cgroup_preflight.smoke import payload, probes

PAYLOAD = os.path.join(os.path.dirname(probes.__file__), "payload.py")

pytestmark = pytest.mark.starts_processes


def answers(*lines: str) -> list[dict[str, object]]:
    done = subprocess.run(
        [sys.executable, "-I", "-S", PAYLOAD],
        input="".join(f"{line}\n" for line in lines), capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    assert done.stderr == ""
    return [ast.literal_eval(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize("count", [1, 127, 128, 129, 300])
def test_starts_as_many_tasks_as_asked_for(tmp_path, count):
    (tmp_path / "pids.current").write_text("7\n")
    up, crowd, over = answers(f"tasks {count} 50 {tmp_path}")
    assert "up" in up
    same = {"refused": False, "killed": False, "pids.current": "7", "pids.max": None}
    assert crowd == {"started": count, "alive": count, **same}
    assert over == {"over": "tasks"}


@pytest.mark.parametrize(("most", "now"), [("10", "3"), ("64", "2"), ("max", "2"), ("", "")])
def test_goes_on_beyond_a_limit_that_the_kernel_does_not_enforce(tmp_path, most, now):
    """Where the limit leaves little room all are threads of one process, else groups of them."""
    (tmp_path / "pids.max").write_text(f"{most}\n")
    (tmp_path / "pids.current").write_text(f"{now}\n")
    _, crowd, _ = answers(f"tasks 100 50 {tmp_path}")
    same = {"refused": False, "killed": False, "pids.current": now or None, "pids.max": most or None}
    assert crowd == {"started": 100, "alive": 100, **same}


@contextlib.contextmanager
def asked(line: str) -> Iterator[subprocess.Popen[str]]:
    """A payload that was asked and whose stdin stays open, as the FIFO of a run does; it has said that it is up."""
    with subprocess.Popen([sys.executable, "-I", "-S", PAYLOAD], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                          text=True) as process:  # fmt: skip
        assert "up" in process.stdout.readline()
        process.stdin.write(f"{line}\n")
        process.stdin.flush()
        yield process
        process.kill()


def test_uses_cpu_time_on_the_named_cpus_until_the_end(tmp_path):
    cpus = sorted(os.sched_getaffinity(0))[:2]
    before = time.monotonic()
    with asked(f"load {sum(1 << cpu for cpu in cpus)} 0.4 {tmp_path}") as process:
        load, over = (ast.literal_eval(process.stdout.readline()) for _ in range(2))
        assert (load, over) == ({"ended": len(cpus)}, {"over": "load"})
    assert time.monotonic() - before >= 0.4


def test_does_not_use_time_of_other_cpus_than_those_named(tmp_path):
    """No process may use CPU 4000: on another one it would compete with others than the model says."""
    before = time.monotonic()
    with asked(f"load {1 << 4000} 300 {tmp_path}") as process:
        assert ast.literal_eval(process.stdout.readline()) == {"ended": 1}
    assert time.monotonic() - before < 200


def test_uses_no_more_time_when_the_tool_was_killed(tmp_path):
    before = time.monotonic()
    with asked(f"load {1 << min(os.sched_getaffinity(0))} 300 {tmp_path}") as process:
        process.stdin.close()
        process.wait(timeout=200)
    assert time.monotonic() - before < 200


def test_says_when_one_of_its_processes_is_killed(monkeypatch):
    """Told from its own side: the process that uses CPU time is the first that ends."""
    said = []
    monkeypatch.setattr(payload, "say", lambda **values: said.append(values))
    monkeypatch.setattr(payload, "spin", lambda _until: os.kill(os.getpid(), 9))
    before = time.monotonic()
    payload.load(1, 60.0)
    assert (said, time.monotonic() - before < 30) == ([{"ended": 1}], True)


def test_time_that_is_over_is_not_a_refusal(tmp_path):
    _, crowd, over = answers(f"tasks 100000 0 {tmp_path}")
    assert crowd["started"] == 0
    assert crowd["refused"] is False
    assert over == {"over": "tasks"}


def test_eats_what_it_was_asked_for_and_goes_on_with_the_next(tmp_path):
    _, *said = answers(f"max {8 << 20} 50 {tmp_path}", f"high {4 << 20} 50 {tmp_path}")
    assert [line for line in said if "eaten" in line] == [
        {"eaten": 8 << 20, "finished": True, "current": None}, {"eaten": 4 << 20, "finished": True, "current": None},
    ]  # fmt: skip
    assert [line["over"] for line in said if "over" in line] == ["max", "high"]


@pytest.mark.parametrize(
    ("quota", "looks", "ends_at"),
    [
        # Time, what was used until then, throttled periods. As it should be: after three.
        ("20000 100000", [(0.15, 0.03, 1), (0.35, 0.07, 3), (0.45, 0.09, 4)], 0.35),
        # The machine stood still, and what that cost is paid back.
        ("20000 100000", [(0.35, 0.3, 3), (0.8, 0.3, 3), (1.45, 0.3, 9)], 1.45),
        # It never is: until the deadline.
        ("20000 100000", [(0.35, 0.3, 3), (4.9, 4.0, 40), (5.1, 4.2, 45), (5.2, 0.0, 99)], 5.1),
        ("max 100000", [(0.35, 3.0, 0), (5.3, 9.0, 0)], 5.3),
        ("", [(0.35, 3.0, 4), (5.3, 9.0, 9)], 0.35),
    ],
)
def test_a_quota_is_measured_until_what_was_used_beyond_it_is_paid_back(monkeypatch, tmp_path, quota, looks, ends_at):
    (tmp_path / "cpu.max").write_text(quota)
    clock = iter([(0.0, 0.0, 0), *looks])

    def stamped_stat(_folder):
        now, used, throttled = next(clock)
        return now, {"usage_usec": int(used * 1e6), "nr_throttled": throttled}, now

    said = []
    monkeypatch.setattr(payload, "stamped_stat", stamped_stat)
    monkeypatch.setattr(payload, "say", lambda **values: said.append(values))
    monkeypatch.setattr(payload.time, "sleep", lambda _seconds: None)
    payload.burn(str(tmp_path), 0, 5.0)
    assert [line["longest"] for line in said] == [ends_at]


def test_keeps_memory_in_a_child_until_it_is_dropped():
    process = subprocess.Popen(
        [sys.executable, "-I", "-S", PAYLOAD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    )
    with process:
        said = [ast.literal_eval(process.stdout.readline())]
        for line, count in (("keep 8388608 5 /", 2), ("own 4096 5 /", 2), ("drop 0 5 /", 1), ("drop 0 5 /", 1)):
            process.stdin.write(f"{line}\n")
            said += [ast.literal_eval(process.stdout.readline()) for _ in range(count)]
            # Linux's list of children: the second replaces the first.
            with open(f"/proc/{process.pid}/task/{process.pid}/children") as file:
                assert len(file.read().split()) == ("drop" not in line)
        process.stdin.close()
    assert said[1:] == [
        {"kept": 8 << 20}, {"over": "keep"}, {"kept": 4096}, {"over": "own"}, {"over": "drop"}, {"over": "drop"},
    ]  # fmt: skip


def test_competes_with_memory_as_programs_have_it(tmp_path):
    _, eaten, over = answers(f"rival {3 << 20} 50 {tmp_path}")
    assert (eaten, over) == ({"eaten": 3 << 20}, {"over": "rival"})


def test_what_it_keeps_ends_with_it(tmp_path):
    before = time.monotonic()
    answers(f"keep 4096 50 {tmp_path}")
    assert time.monotonic() - before < 30
