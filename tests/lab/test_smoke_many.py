"""Many services in one run: none fails because it waited for the others, and the time grows no faster than their number."""

import contextlib
import signal
import time
from collections.abc import Callable, Iterator

import pytest

from cgroup_preflight.guest.session import Guest
from tests.lab.configs import Lab, Outcome, config, fixture, service
from tests.lab.conftest import Boot

#: Counts for so many rounds before it listens: a start that takes CPU time, and so longer where others start.
_SLOW = """\
#!/usr/bin/python3
import socket, sys, time
for number in range(300_000):
    pass
listening = socket.create_server(("127.0.0.1", int(sys.argv[1])))
time.sleep(3600)
"""
#: What one service may take on a slow machine, where a few others do the same; all 60 together take longer than systemd's
#: time-out of a start, which once ended the first ones.
_TIMES = {"start_timeout": "90s", "stop_timeout": "60s"}

#: Two measurements of the same differ by so much.
_TOLERANCE = 1.05


def _services(count: int) -> dict[str, dict[str, object]]:
    """Of five services, one answers late, one is a job, and three only run; each has limits of its own."""
    made: dict[str, dict[str, object]] = {}
    for number in range(count):
        limits = {"slice": "many", "MemoryMax": "64M", "TasksMax": 20}
        port = 20_000 + number
        made[f"s{number:03}"] = (
            service("slow.py", str(port), ready=f"tcp://127.0.0.1:{port}", smoke=_TIMES, **limits)
            if number % 5 == 0
            else fixture("exiter", "--code=0", ready="exit", smoke=_TIMES, **limits)
            if number % 5 == 1
            else service("/bin/sleep", "3600", smoke=_TIMES, **limits)
        )
    return made


def _bad(outcome: Outcome) -> list[str]:
    return [f"{item['subject']}: {item['code']} {item['message']}" for item in outcome.report["findings"]
            if item["status"] not in ("pass", "skip") and item["code"].startswith("CGP5")]  # fmt: skip


def _config_slices() -> dict[str, object]:
    return {"many": {"CPUWeight": 50}}


@pytest.mark.timeout(900)
def test_sixty_services_on_one_cpu(boot: Boot, fixtures: object) -> None:
    """Nothing fails because of the others, and a bad service still does."""
    guest: Guest = boot()
    lab = Lab(guest)
    services = _services(60)
    services["never"] = fixture(
        "neverready", ready="tcp://127.0.0.1:19999", smoke={"start_timeout": "3s"}, MemoryMax="64M"
    )
    services["first"] = fixture("exiter", "--code=3", MemoryMax="64M")
    folder = lab.write("sixty", config(services, _config_slices()), {"slow.py": _SLOW})
    outcome = lab.run("smoke", folder=folder, timeout=800.0)
    bad = [line for line in _bad(outcome) if not line.startswith(("never:", "first:"))]
    assert not bad, bad
    assert outcome.statuses("never")["CGP505"] == "fail"
    assert outcome.statuses("first")["CGP503"] == "fail"
    assert len(outcome.report["services"]) == 62


@contextlib.contextmanager
def _crowd(guest: Guest) -> Iterator[None]:
    """A busy process for each CPU of the guest."""
    busy = [guest.spawn(["sh", "-c", "while :; do :; done"]) for _ in range(guest.spec.cpus)]
    try:
        yield
    finally:
        for process in busy:
            guest.signal(process, signal.SIGKILL)
            guest.wait(process, timeout=30)


@pytest.mark.measured
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("crowded", [False, True], ids=["quiet", "beside a busy process"])
def test_the_time_grows_no_faster_than_their_number(
    boot: Boot, fixtures: object, crowded: bool, say: Callable[..., None]
) -> None:
    """25, 50, 100 and 200 services in one guest, all at the same time within each run."""
    guest: Guest = boot()
    lab = Lab(guest)
    seconds: dict[int, float] = {}
    with _crowd(guest) if crowded else contextlib.nullcontext():
        for count in (25, 50, 100, 200):
            folder = lab.write(f"many-{count}", config(_services(count), _config_slices()), {"slow.py": _SLOW})
            began = time.monotonic()
            outcome = lab.run("smoke", folder=folder, timeout=2400.0)
            seconds[count] = time.monotonic() - began
            say(f"{count} services: {seconds[count]:.1f} s, {outcome.verdict}")
            bad = _bad(outcome)
            assert not bad, (seconds, bad)
            assert len(outcome.report["services"]) == count
    few = min(seconds)
    for many in seconds:
        assert seconds[many] <= many / few * seconds[few] * _TOLERANCE, seconds
