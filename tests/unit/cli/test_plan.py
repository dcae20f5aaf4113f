"""`plan shares`: the shares of a config next to the siblings of a recorded host, and each wrong call."""

import json
from pathlib import Path

import pytest

from tests.unit.cli.calling import call, check_harmless

pytestmark = pytest.mark.starts_processes
HOSTS = Path(__file__).parents[2] / "hosts"
CONFIG = """\
[project]
name = "shop"
[slices.api]
CPUWeight = 300
[services.user-api]
binary = "dist/user-api"
slice = "api"
CPUWeight = 200
[services.order-api]
binary = "dist/order-api"
slice = "api"
CPUQuota = "50%"
"""


def recorded(tmp_path: Path, **siblings: str) -> str:
    """A recording of debian-13 whose top slices, with `_` for the dot, have these weights."""
    document = json.loads((HOSTS / "debian-13.json").read_text())
    names = [name.replace("_", ".") for name in siblings]
    document["host"]["names /sys/fs/cgroup"] = {"value": sorted(names)}
    for name, weight in zip(names, siblings.values(), strict=True):
        document["host"][f"read /sys/fs/cgroup/{name}/cgroup.events"] = {"value": "populated 1\n"}
        document["host"][f"read /sys/fs/cgroup/{name}/cpu.weight"] = {"value": f"{weight}\n"}
    (tmp_path / "host.json").write_text(json.dumps(document))
    return "host.json"


def shares(tmp_path: Path, *words: str, config: str = CONFIG) -> dict[str, float]:
    called = call(tmp_path, "plan", "shares", "--format=json", *words, config=config, statuses=(0,))
    return {item["unit"]: item["cpus"] for item in json.loads(called.out)["units"]}


def test_siblings_of_a_recorded_host_take_their_part(tmp_path):
    host = recorded(tmp_path, user_slice="100", kubepods_slice="2500", init_scope="100")
    found = shares(tmp_path, "--root", host, "--cpus", "4")
    assert found["api.slice"] == pytest.approx(4 * 300 / 2900, abs=1e-5)
    assert found["kubepods.slice"] == pytest.approx(4 * 2500 / 2900, abs=1e-5)
    assert "init.scope" not in found
    assert found["user-api.service"] + found["order-api.service"] == pytest.approx(found["api.slice"], abs=1e-5)
    counted = shares(tmp_path, "--root", host, "--cpus", "4", "--demand", "init.scope=0.1", "--demand", "user.slice=0")
    assert (counted["init.scope"], counted["user.slice"]) == (pytest.approx(0.1), 0)


def test_a_recording_without_siblings_is_said_and_the_usual_ones_are_assumed(tmp_path):
    called = call(tmp_path, "plan", "shares", "--root", str(HOSTS / "debian-13.json"), config=CONFIG, statuses=(0,))
    assert "this recording does not show its slices: system.slice and user.slice with the weight 100" in called.out


def test_the_cpus_of_a_recording_are_those_of_its_host(tmp_path):
    recorded(tmp_path, user_slice="100")
    document = json.loads((tmp_path / "host.json").read_text())
    document["host"]["read /sys/devices/system/cpu/online"] = {"value": "0-7\n"}
    (tmp_path / "host.json").write_text(json.dumps(document))
    called = call(tmp_path, "plan", "shares", "--format=json", "--root", "host.json", config=CONFIG, statuses=(0,))
    assert json.loads(called.out)["cpus"] == 8
    del document["host"]["read /sys/devices/system/cpu/online"]
    (tmp_path / "host.json").write_text(json.dumps(document))
    assert "--cpus 4" in call(tmp_path, "plan", "shares", "--root", "host.json", statuses=(2,)).err


def test_a_demand_by_name_or_unit(tmp_path):
    host = recorded(tmp_path, user_slice="100")
    for name in ("user-api", "user-api.service"):
        found = shares(tmp_path, "--root", host, "--cpus=4", "--demand", f"{name}=0.25")
        assert (found["user-api.service"], found["order-api.service"], found["user.slice"]) == (0.25, 0.5, 3.25)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--demand", "usr-api=1"], "did you mean user-api?"),
        (["--demand", "xyzzy=1"], "one of: "),
        (["--demand", "api=1"], "is a slice of the plan"),
        (["--demand", "user-api=1", "--demand", "user-api.service=1"], "is given twice"),
        (["--demand", "user-api"], "is not SERVICE=CPUS"),
        (["--demand", "=1"], "is not SERVICE=CPUS"),
        (["--demand", "user-api=order-api"], "has no number of CPUs"),
        (["--demand", "user-api=150%"], "use 1.5 for 150%"),
        (["--demand", "user-api=-1"], "has no number of CPUs"),
        (["--demand", "user-api=nan"], "has no number of CPUs"),
        (["--demand", "\x1b[31m=1"], "is no service"),
        (["--cpus", "0"], "is not a number of CPUs"),
        (["--cpus", "9000"], "is not a number of CPUs"),
        (["--cpus", "two"], "is not a number of CPUs"),
        (["--root", "nothing.json"], "nothing.json"),
        (["--format", "junit"], "--format"),
    ],
    ids=" ".join,
)
def test_wrong_calls_say_what_to_do(tmp_path, words, says):
    host = recorded(tmp_path, user_slice="100")
    more = [] if "--root" in words else ["--root", host]
    called = call(tmp_path, "plan", "shares", *more, *words, config=CONFIG, statuses=(2,))
    assert says in called.err
    assert called.out == ""


def test_without_an_action_or_a_service(tmp_path):
    assert "ACTION" in call(tmp_path, "plan", config=CONFIG, statuses=(2,)).err
    called = call(
        tmp_path, "plan", "shares", config="[project]\nname = 'shop'\n[slices.a]\nCPUWeight = 5\n", statuses=(2,)
    )
    assert "no service" in called.err


def test_hostile_names_of_siblings_do_not_reach_the_terminal(tmp_path):
    recorded(tmp_path, user_slice="100")
    text = (tmp_path / "host.json").read_text().replace("user.slice", "\\u001b[31m\\u202e.slice")
    (tmp_path / "host.json").write_text(text)
    called = call(tmp_path, "plan", "shares", "--root", "host.json", config=CONFIG, statuses=(0,))
    assert "[31m" in called.out
    check_harmless(called.out)


def test_a_config_with_weights_only_is_said(tmp_path):
    config = CONFIG.replace('CPUQuota = "50%"\n', "")
    assert "weights only" in call(tmp_path, "plan", "shares", "--cpus=2", config=config, statuses=(0,)).out
