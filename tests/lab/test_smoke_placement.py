"""What user-mode-linux does not have: CPU sets, and swap."""

from collections.abc import Iterator

import pytest

from cgroup_preflight.guest.session import Guest
from tests.lab.configs import Lab, Outcome, config, service

pytestmark = pytest.mark.requires("cpuset", "cpus>=4")
_MIB = 1 << 20
_SWAP = "/var/tmp/lab-swap"


@pytest.fixture
def lab(guest: Guest) -> Lab:
    return Lab(guest)


def _stays(**keys: object) -> dict[str, object]:
    return service("/bin/sleep", "317", **keys)


def test_cpus_that_the_slice_does_not_have_are_no_pass(lab: Lab) -> None:
    """cpuset.cpus holds what was asked for all the same, so only what was granted tells."""
    slices = {"front": {"AllowedCPUs": "0-1"}}
    services = {"inside": _stays(slice="front", AllowedCPUs="1"), "outside": _stays(slice="front", AllowedCPUs="2-3")}
    outcome = lab.run("smoke", folder=lab.write("cpus", config(services, slices)), timeout=240)
    assert (outcome.verdict, outcome.exit_status) == ("fail", 1)
    assert outcome.finding("CGP501", "inside")["status"] == "pass"
    assert outcome.limits("inside")["front.slice/inside.service/cpuset.cpus.effective"] == "1"
    found = outcome.finding("CGP501", "outside")
    assert found["status"] == "fail"
    assert "cpuset.cpus.effective" in found["message"]
    assert found["evidence"]["Cpus_allowed_list"] == "0-1"


@pytest.fixture
def swap(lab: Lab) -> Iterator[None]:
    """128 MiB of swap, gone again at the end."""
    lab.shell(
        f"dd if=/dev/zero of={_SWAP} bs=1M count=128 status=none; chmod 600 {_SWAP}; mkswap -q {_SWAP}; swapon {_SWAP}"
    )
    yield
    lab.shell(f"swapoff {_SWAP}; rm {_SWAP}", timeout=120)


def _pushed(outcome: Outcome) -> dict[str, str]:
    return {f["subject"]: f["status"] for f in outcome.findings("CGP511") if f["message"].startswith("MemorySwapMax")}


@pytest.mark.usefixtures("swap")
def test_swap_limits_are_pushed_against_where_there_is_swap(lab: Lab) -> None:
    services = {
        # A limit of swap alone holds nothing back.
        "none": _stays(slice="s", MemorySwapMax=0, TasksMax=64),
        "some": _stays(slice="s", MemorySwapMax="8M", TasksMax=64),
        "more": _stays(MemorySwapMax="1G", TasksMax=64),
    }
    outcome = lab.run("smoke", folder=lab.write("swap", config(services, {"s": {"MemorySwapMax": "24M"}})), timeout=300)
    assert _pushed(outcome) == {"none": "pass", "some": "pass", "s.slice": "pass", "more": "unverified"}, outcome.text
    assert outcome.verdict == "unverified"
