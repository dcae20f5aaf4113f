"""A quota that slows a service is a warning: with long periods, too, and where only the start suffered. The twins get none."""

from tests.lab.configs import Lab, Outcome, config, service
from tests.lab.conftest import KINDS, Boot

#: Uses so many seconds of CPU time, says that it is up, and goes on or waits.
_SCRIPT = """#!/usr/bin/python3
import sys, time

while time.process_time() < float(sys.argv[1]):
    pass
print("up", flush=True)
while sys.argv[2] == "busy":
    pass
time.sleep(300)
"""
_LIMITS = {"slice": "api", "MemoryMax": "64M", "TasksMax": 20}
_SECOND = {**_LIMITS, "CPUQuotaPeriodSec": "1s"}


def _service(seconds: float, then: str, quota: str, limits: dict[str, object]) -> dict[str, object]:
    smoke = {"duration": "5s", "start_timeout": "20s"}
    return service("burn.py", str(seconds), then, ready="log:^up", smoke=smoke, CPUQuota=quota, **limits)


def _run(boot: Boot, name: str, **services: dict[str, object]) -> Outcome:
    lab = Lab(boot(base=KINDS[0].spec))
    made = config(services, {"api": {"CPUWeight": 50}})
    return lab.run("smoke", folder=lab.write(name, made, {"burn.py": _SCRIPT}))


def test_of_few_periods_the_time_counts(boot: Boot) -> None:
    calm = _service(0.1, "calm", "10%", _SECOND)
    seen = _run(boot, "long", **{"long": _service(0.1, "busy", "10%", _SECOND), "long-calm": calm})
    found = seen.finding("CGP515", "long")
    assert found["status"] == "warn"
    assert "throttled for " in found["message"], seen.text
    assert found["evidence"]["nr_periods"] < 10
    assert seen.findings("CGP515", "long-calm") == [], seen.text


def test_a_start_that_nearly_took_too_long_comes_first(boot: Boot) -> None:
    early = _service(0.1, "calm", "10%", _LIMITS)
    seen = _run(boot, "late", late=_service(1.4, "calm", "10%", _LIMITS), early=early)
    found = seen.finding("CGP515", "late")
    assert found["status"] == "warn"
    assert found["message"].startswith("it needed "), seen.text
    assert " of its start_timeout of 20 s to become ready, throttled in " in found["message"]
    assert seen.findings("CGP515", "early") == [], seen.text
    assert seen.verdict == "pass", seen.text
