"""What IOWeight gives on a real kernel with bfq, with io.cost, and with neither: the figures behind docs/shares.md.

No probe of this tool takes part: it reads the files back (CGP501), and the test shows what their values are worth.
"""

import json
from pathlib import Path
from typing import Any

import pytest

from cgroup_preflight.core.records import replace
from cgroup_preflight.guest.session import Guest
from tests.lab.configs import Lab, config, service
from tests.lab.conftest import KINDS, Boot

pytestmark = pytest.mark.measured
_SCRIPT = Path(__file__).with_name("io_weight_inside.py")


def _share(guest: Guest, way: str, weight: int) -> tuple[dict[str, Any], float]:
    """What a service received of what two read, in percent; the other has the weight 100."""
    guest.write_file("/var/tmp/io_weight_inside.py", _SCRIPT.read_bytes())
    done = guest.run(["python3", "/var/tmp/io_weight_inside.py", way, "100", str(weight)], timeout=300)
    assert done.returncode == 0, done
    found = json.loads(done.text.splitlines()[-1])
    share = 100 * found["bytes"][1] / sum(found["bytes"])
    print(f"| {way} | 100 : {weight} | {found['io.weight'][1]} | {found['io.bfq.weight'][1]} | {share:.1f}% |")
    return found, share


@pytest.mark.requires("cpus>=4")
@pytest.mark.parametrize(("weight", "written"), [(300, 118), (1000, 181)])
@pytest.mark.parametrize("way", ["none", "io.cost", "bfq"])
def test_the_weight_reads_back_as_planned_whatever_it_gives(guest: Guest, way: str, weight: int, written: int) -> None:
    """Prints the shares and does not judge them: on an emulated machine they differ from run to run.

    systemd maps 100 to 10000 of IOWeight to 100 to 1000 of io.bfq.weight, so that bfq has another weight than io.weight says.
    """
    found, share = _share(guest, way, weight)
    assert 0 < share < 100
    assert found["io.weight"] == ["default 100", f"default {weight}"]
    assert found["io.bfq.weight"] == ["default 100", f"default {written}"]


@pytest.mark.requires("cpus>=4")
@pytest.mark.parametrize(
    ("way", "weight", "wanted"), [("bfq-strict", 1000, 64.4), ("bfq-strict", 10000, 90.9), ("none", 10000, 50)]
)
def test_bfq_without_its_heuristics_divides_by_its_own_weight(
    guest: Guest, way: str, weight: int, wanted: float
) -> None:
    """100 to 181, and 100 to 1000; without a scheduler that weighs it is one half, whatever the weight is."""
    found, share = _share(guest, way, weight)
    assert share == pytest.approx(wanted, abs=8 if way == "none" else 5), found


_UML, _QEMU = (kind.spec for kind in KINDS)
_SYSTEMS = {"debian-12-uml": _UML, "debian-13-qemu": _QEMU, "debian-14-qemu": replace(_QEMU, distro="debian-14")}
_SERVICES = {
    name: service("/bin/sleep", "317", MemoryMax="32M", IOWeight=weight) for name, weight in (("light", 100), ("heavy", 300))
}  # fmt: skip


@pytest.mark.parametrize("name", _SYSTEMS)
def test_no_guest_weighs_io_and_nothing_claims_that_a_weight_was_tested(boot: Boot, name: str) -> None:
    """Its disks have neither bfq nor io.cost by themselves; where bfq is switched on, only the file is read back."""
    lab = Lab(boot(base=_SYSTEMS[name]))
    folder = lab.write("io-weight", config(_SERVICES))
    plain = lab.run("smoke", folder=folder)
    disk = lab.shell(
        "for d in /sys/block/*; do case $d in */loop*|*/nullb*) ;; *) basename $d; break ;; esac; done"
    ).strip()
    print(f"| {name} | {disk} | {lab.shell(f'cat /sys/block/{disk}/queue/scheduler').strip()} |")
    for status, message in _about(plain.report, "CGP119"):
        assert status == "warn"
        assert message == "IOWeight has no effect: no disk uses bfq, and io.cost is off"
    assert len(_about(plain.report, "CGP119")) == 2
    assert _about(plain.report, "CGP517") == _about(plain.report, "CGP511") == []
    on = lab.guest.run(["sh", "-c", f"modprobe bfq; echo bfq > /sys/block/{disk}/queue/scheduler"])
    if name == "debian-12-uml":
        assert on.returncode != 0, "user-mode-linux has no bfq"
        return
    try:
        weighed = lab.run("smoke", folder=folder)
    finally:
        lab.shell(f"echo none > /sys/block/{disk}/queue/scheduler")
    assert [status for status, _ in _about(weighed.report, "CGP119") if status == "warn"] == []
    assert _about(weighed.report, "CGP517") == _about(weighed.report, "CGP511") == []
    assert weighed.limits("heavy").get("heavy.service/io.weight") == "default 300", weighed.limits("heavy")


def _about(report: dict[str, Any], code: str) -> list[tuple[str, str]]:
    found = [(item["status"], item["message"]) for item in report["findings"] if item["code"] == code]
    return [(status, message) for status, message in found if "IOWeight" in message]
