"""What IOWeight gives on a real kernel with bfq, with io.cost, and with neither: the facts behind docs/shares.md.

No probe of this tool takes part: it reads the files back (CGP501), and the test shows what their values are worth.
"""

import json
from pathlib import Path
from typing import Any

import pytest

from cgroup_preflight.guest.session import Guest

pytestmark = [pytest.mark.measured, pytest.mark.requires("cpus>=4")]
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


@pytest.mark.parametrize("weight", [300, 1000])
def test_without_bfq_and_io_cost_the_weight_decides_nothing(guest: Guest, weight: int) -> None:
    found, share = _share(guest, "none", weight)
    assert found["io.weight"][1] == f"default {weight}", "it reads back as planned"
    assert 40 < share < 60


@pytest.mark.parametrize("weight", [300, 1000])
def test_io_cost_divides_by_the_weight(guest: Guest, weight: int) -> None:
    _, share = _share(guest, "io.cost", weight)
    assert abs(share - 100 * weight / (weight + 100)) < 10


@pytest.mark.parametrize(("weight", "written"), [(300, 118), (1000, 181)])
def test_bfq_divides_by_another_weight(guest: Guest, weight: int, written: int) -> None:
    """systemd maps 100 to 10000 of IOWeight to 100 to 1000 of io.bfq.weight."""
    found, share = _share(guest, "bfq", weight)
    assert found["io.bfq.weight"] == ["default 100", f"default {written}"]
    assert 50 < share < 100 * weight / (weight + 100)
