"""A service that reaches its MemoryMax next to one with memory of its own: on a real kernel, with room for both and without."""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import pytest

from tests.lab.configs import Lab, Outcome, config, service

#: Twenty-four megabytes that the service keeps.
_WORKING = 'x = b"x" * (24 << 20); print("working", flush=True); import time; time.sleep(300)'


def _pair(name: str, *, limit: str, working: str) -> dict[str, Mapping[str, object]]:
    """A service with this limit, and one with a working set, in the slice of this name."""
    return {
        f"{name}-grows": service("/bin/sleep", "315", slice=name, MemoryMax=limit),
        f"{name}-works": service(
            "/usr/bin/python3", "-c", _WORKING, ready="log:working", slice=name, MemoryMax=working
        ),
    }


def _next_to(outcome: Outcome, name: str) -> tuple[str, list[tuple[str, str]]]:
    """What was found about MemoryMax of the service that grows, and what about its neighbour."""
    found = outcome.findings("CGP511", f"{name}-grows")
    (limit,) = [item for item in found if item["message"].startswith("MemoryMax: ")]
    assert limit["status"] == "pass", limit
    return limit["message"], [(item["status"], item["message"]) for item in found if item is not limit]


@pytest.fixture(scope="module")
def neighbours(boot) -> Outcome:
    """One run: a slice with room for both services, one in which the larger is that which grows, and one where it is not."""
    slices = {"roomy": {"MemoryMax": "192M"}, "tight": {"MemoryMax": "64M"}, "small": {"MemoryMax": "48M"}}
    services = {
        **_pair("roomy", limit="48M", working="64M"),
        **_pair("tight", limit="50M", working="46M"),
        **_pair("small", limit="40M", working="42M"),
    }
    lab = Lab(boot())
    return lab.run("smoke", folder=lab.write("neighbours", config(services, slices)))


def test_a_service_at_its_limit_leaves_its_neighbour_alone(neighbours: Outcome) -> None:
    message, others = _next_to(neighbours, "roomy")
    assert re.search(r"; roomy-works next to it kept its 2[5-9]", message), message
    assert others == []


def test_a_slice_whose_limit_is_reached_first_is_named_with_the_process_that_is_killed(neighbours: Outcome) -> None:
    """Legal, and so a warning: its services may use more together than the slice has."""
    for name, size, hit in (("tight", "64M", "the probe"), ("small", "48M", "small-works, which had 26M")):
        _, ((status, message),) = _next_to(neighbours, name)
        assert status == "warn", message
        assert f"the memory of {name}.slice ({size}) was used up before MemoryMax" in message
        assert f"the kernel killed {hit}" in message
    assert (neighbours.verdict, neighbours.exit_status) == ("pass", 0)


_LESS = """\
#!/bin/sh
# Called by systemd before the program of each service, with the name of the unit, while nothing else goes on there.
case $1 in
*_probe-*) for file in /sys/fs/cgroup/cgpf*.slice/*-roomy.slice/memory.max; do echo 58M > "$file"; done ;;
esac
"""
#: A drop-in for all services (systemd.unit(5)); `+` is with all rights.
_ALL = "/run/systemd/system/service.d"


@contextmanager
def _before_each_service(lab: Lab, command: str) -> Iterator[None]:
    """Lets the service manager of the guest call a command with the name of each service that it starts."""
    lab.guest.write_file(f"{_ALL}/50-lab.conf", f"[Service]\nExecStartPre=+{command} %n\n".encode())
    lab.shell("systemctl daemon-reload")
    try:
        yield
    finally:
        lab.shell(f"rm -r {_ALL}; systemctl daemon-reload")


def test_a_slice_that_has_less_than_the_plan_gives_it_fails(boot) -> None:
    """Lowered when the probes start, after the services have run, so what was read before was right."""
    lab = Lab(boot())
    services, slices = _pair("roomy", limit="48M", working="64M"), {"roomy": {"MemoryMax": "192M"}}
    folder = lab.write("lowered", config(services, slices), {"less.sh": _LESS})
    with _before_each_service(lab, f"{folder}/less.sh"):
        outcome = lab.run("smoke", folder=folder)
    for name in services:
        assert {item["status"] for item in outcome.findings("CGP501", name)} == {"pass"}
    (found,) = [item for item in outcome.findings("CGP511", "roomy-grows") if "next to roomy-works" in item["message"]]
    assert found["status"] == "fail", found
    assert "the plan gives roomy.slice room for both" in found["message"]
    assert (outcome.verdict, outcome.exit_status) == ("fail", 1)
