"""The load probe of weights on real kernels: the scenarios of the kernel's own selftests with a bar of three points.

Source of the scenarios: tools/testing/selftests/cgroup/test_cpu.c, whose own bars are 15 to 35 percent of the sum.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from cgroup_preflight.guest.session import Guest
from tests.lab.configs import ENVIRONMENT, Lab, config

pytestmark = pytest.mark.measured
_SCRIPT = Path(__file__).with_name("load_inside.py")
_MANY = pytest.mark.requires("cpus>=4")


def _services(**slices: str) -> dict[str, dict[str, object]]:
    """A service for each name, with its slice and, after a colon, its weight."""
    found: dict[str, dict[str, object]] = {}
    for name, words in slices.items():
        place, _, weight = words.partition(":")
        found[name] = {"binary": "/bin/true", "slice": place, **({"CPUWeight": int(weight)} if weight else {})}
    return found


#: Name to slices and services.
SCENARIOS: dict[str, tuple[dict[str, dict[str, object]], dict[str, dict[str, object]]]] = {
    "overprovisioned": ({"a": {"CPUWeight": 100}}, _services(x="a:50", y="a:100", z="a:150")),
    "nested": (
        {"a": {"CPUWeight": 100}, "a-b": {"CPUWeight": 1000}, "a-c": {"CPUWeight": 1000}},
        _services(b="a-b", d="a-c:5000", e="a-c:5000"),
    ),
    "quota next to weights": (
        {"a": {"CPUWeight": 300}, "b": {"CPUWeight": 100}},
        {**_services(x="a:200", y="a", z="b"), "q": {"binary": "/bin/true", "slice": "b", "CPUQuota": "10%"}},
    ),
    "quota of a slice": (
        {"a": {"CPUWeight": 300, "CPUQuota": "30%"}, "b": {"CPUWeight": 100}}, _services(x="a:200", y="a", z="b"),
    ),
    "idle": ({"a": {"CPUWeight": 100}, "b": {"CPUWeight": "idle"}}, _services(x="a", y="b")),
    "far apart": ({"a": {"CPUWeight": 10000}, "b": {"CPUWeight": 1}}, _services(x="a", y="b")),
}  # fmt: skip


@pytest.fixture
def lab(guest: Guest) -> Lab:
    return Lab(guest)


def _probe(lab: Lab, name: str, change: str = "", cpus: str = "few") -> Mapping[str, Any]:
    slices, services = SCENARIOS[name]
    folder = lab.write(f"load-{name.replace(' ', '-')}", config(services, slices))
    lab.guest.write_file(f"{folder}/load_inside.py", _SCRIPT.read_bytes())
    words = ["python3", f"{folder}/load_inside.py", f"{folder}/cgroup-preflight.toml", cpus, change]
    done = lab.guest.run(words, env=ENVIRONMENT, timeout=300)
    assert done.returncode == 0, done
    assert lab.leftovers() == []
    found: dict[str, Any] = json.loads(done.text.splitlines()[-1])
    evidence = found["evidence"]
    print(f"| {name}{f', {change}' if change else ''} | {cpus} | {found['status']} | {evidence.get('largest_error_points')} |"
          f" {evidence.get('seconds')} | {evidence.get('cpus')} | {found['message']}")  # fmt: skip
    return found


@pytest.mark.parametrize("name", SCENARIOS)
def test_weights_divide_as_the_model_says(lab: Lab, name: str) -> None:
    found = _probe(lab, name)
    assert found["status"] == "pass", found
    assert found["evidence"]["largest_error_points"] <= 3


@_MANY
@pytest.mark.parametrize("cpus", ["few", "all"])
@pytest.mark.parametrize("name", SCENARIOS)
def test_weights_divide_as_the_model_says_where_there_are_many_cpus(lab: Lab, name: str, cpus: str) -> None:
    found = _probe(lab, name, cpus=cpus)
    assert found["status"] == "pass", found
    assert found["evidence"]["largest_error_points"] <= 3
    assert found["evidence"]["cpus"] == {"few": "3", "all": "0-3"}[cpus]


@_MANY
def test_weights_do_nothing_where_there_is_a_cpu_for_each(lab: Lab) -> None:
    """The scenario `weight_underprovisioned`: one thread each and CPUs to spare, so each has a CPU whatever its weight is."""
    found = _probe(lab, "overprovisioned", cpus="free")
    assert found["status"] == "pass", found
    assert found["evidence"]["largest_error_points"] <= 3
    shares = [text for name, text in found["evidence"].items() if name.endswith(".service")]
    assert len(shares) == 3
    assert all(30 <= float(text.partition("%")[0]) <= 37 for text in shares), shares


def test_a_weight_that_is_not_in_force_is_no_pass(lab: Lab) -> None:
    """On a quiet guest a fail; one whose host is busy may only say that it cannot tell."""
    found = _probe(lab, "overprovisioned", "-_load-0.service/cpu.weight=600")
    assert found["status"] in ("fail", "unverified"), found
    assert found["evidence"]["largest_error_points"] > 10


def test_a_level_without_the_cpu_controller_is_named(lab: Lab) -> None:
    found = _probe(lab, "overprovisioned", "-a.slice/cgroup.subtree_control=-cpu")
    assert found["status"] == "fail", found
    assert "the cpu controller is not enabled in a.slice" in found["message"]
