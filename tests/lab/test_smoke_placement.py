"""What user-mode-linux does not have: CPU sets, nodes of memory, limits of disks, and swap."""

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


_DISK = "/dev/loop7"


@pytest.fixture
def disk(lab: Lab) -> Iterator[None]:
    """A disk of 16 MiB, gone again at the end."""
    lab.shell(f"modprobe loop; truncate -s 16M {_SWAP}; losetup {_DISK} {_SWAP}")
    yield
    lab.shell(f"losetup -d {_DISK}; rm {_SWAP}")


@pytest.mark.measured  # a minute
@pytest.mark.usefixtures("disk")
def test_limits_of_disks_and_nodes_of_memory_are_read_back_and_zswap_is_named_where_it_is_absent(lab: Lab) -> None:
    limits = {
        "IOReadBandwidthMax": f"{_DISK} 5M",
        "IOWriteBandwidthMax": [f"{_DISK} 2M"],
        "IOReadIOPSMax": f"{_DISK} 1K",
        "IOWriteIOPSMax": f"{_DISK} 90",
    }
    services = {
        "all": _stays(slice="disks", TasksMax=64, AllowedMemoryNodes="0", **limits),
        "some": _stays(slice="disks", TasksMax=64, IOReadIOPSMax=f"{_DISK} 7"),
        "packed": _stays(TasksMax=64, MemoryZSwapWriteback=False),
        "no-node": _stays(TasksMax=64, AllowedMemoryNodes="1"),
        "no-disk": _stays(TasksMax=64, IOReadIOPSMax="/dev/no-such-disk 7"),
    }
    folder = lab.write("disks", config(services, {"disks": {"IOWriteBandwidthMax": f"{_DISK} 3M"}}))
    outcome = lab.run("smoke", folder=folder, timeout=240)
    held = outcome.limits("all")
    assert held["disks.slice/all.service/io.max"] == "7:7 rbps=5000000 wbps=2000000 riops=1000 wiops=90"
    assert held["disks.slice/io.max"] == "7:7 rbps=max wbps=3000000 riops=max wiops=max"
    assert held["disks.slice/all.service/cpuset.mems"] == "0"
    assert outcome.limits("some")["disks.slice/some.service/io.max"] == "7:7 rbps=max wbps=max riops=7 wiops=max"
    assert [outcome.finding("CGP501", name)["status"] for name in ("all", "some")] == ["pass", "pass"]
    for name, words in (("no-node", "name only CPUs and nodes"), ("no-disk", "name a device of this machine")):
        found = outcome.finding("CGP501", name)
        assert found["status"] == "fail"
        assert found["remedies"][0]["title"].startswith(words)
    # Debian's cloud kernels up to 6.12 are built without CONFIG_ZSWAP.
    skipped = [f["message"] for f in outcome.findings("CGP501", "packed") if f["status"] == "skip"]
    assert any("this kernel has no memory.zswap.writeback" in message for message in skipped), outcome.text
