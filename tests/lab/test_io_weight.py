"""What IOWeight gives on a real kernel with bfq, with io.cost, and with neither: the figures behind docs/shares.md.

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
