"""`logs` with a real journal, and `plan shares` next to the real units of a host."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from cgroup_preflight.guest.session import Guest
from tests.lab.configs import ENVIRONMENT, Lab, config

_SLICES = {"shown": {"CPUWeight": 300}, "shown-inner": {"TasksMax": 100}}
_SERVICES = {
    "front": {"binary": "/bin/true", "slice": "shown", "CPUWeight": 200},
    "back": {"binary": "/bin/true", "slice": "shown-inner"},
    "eater": {"binary": "/bin/true", "slice": "shown-inner"},
}
#: What runs on the host: two services of the config, one that dies, and one that nobody thought of.
_UNITS = r"""
run() { systemd-run --quiet --unit="$1" --slice="$2" -p CPUWeight="$3" -p TimeoutStopSec=2 "${@:4}"; }
run front.service shown.slice 200 sh -c 'printf "front is up\nsecond \033[31mline\n"; exec sleep 300'
run back.service shown-inner.slice 100 sh -c 'echo back is up; exec sleep 300'
run stranger.service shown.slice 700 -p CPUQuota=50% sleep 300
run eater.service shown-inner.slice 100 -p MemoryMax=16M -p MemorySwapMax=0 python3 -c 'b"x" * (64 << 20)'
until [ "$(systemctl show -P Result eater.service)" = oom-kill ]; do sleep 0.1; done
journalctl --sync
"""


@pytest.fixture
def lab(guest: Guest) -> Iterator[Lab]:
    found = Lab(guest)
    guest.run(["bash", "-c", _UNITS], timeout=120)
    yield found
    found.shell("systemctl stop front.service back.service stranger.service; systemctl reset-failed")


def _call(lab: Lab, folder: str, *args: str, user: str | None = None) -> tuple[int, str, str]:
    done = lab.guest.run(
        ["python3", "-m", "cgroup_preflight", *args], cwd=folder, env=ENVIRONMENT, user=user, timeout=120
    )
    return done.returncode, done.text, done.stderr.decode(errors="replace")


def _entries(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_logs_and_shares_of_a_real_host(lab: Lab) -> None:
    folder = lab.write("shown", config(_SERVICES, _SLICES))

    status, text, error = _call(lab, folder, "logs", "shown", "--json")
    assert (status, error) == (0, "")
    entries = _entries(text)
    said = {(item["service"], item["message"]) for item in entries}
    assert {("front", "front is up"), ("back", "back is up")} <= said
    assert any(service == "eater" and "oom-kill" in message for service, message in said)
    assert {item["slice"] for item in entries if item["message"].endswith("is up")} == {
        "shown.slice",
        "shown-inner.slice",
    }

    status, text, _ = _call(lab, folder, "logs", "front")
    assert status == 0
    assert any(line.endswith("| front is up") for line in text.splitlines())
    assert "\x1b" not in text
    assert "back is up" not in text

    follow = f"cd {folder}; timeout -s INT 60 python3 -m cgroup_preflight logs back --follow > /tmp/followed & "
    wait = "until grep -q 'back is up' /tmp/followed; do sleep 0.1; done; "
    more = (
        "systemd-run --quiet --wait --unit=more.service --slice=shown-inner.slice true; systemctl stop back.service; "
    )
    # `timeout` passes it on.
    seen = "until grep -q -i stopp /tmp/followed; do sleep 0.1; done; kill -INT $!; wait"
    variables = " ".join(f"{name}={value}" for name, value in ENVIRONMENT.items())
    lab.shell(f"export {variables}; {follow}{wait}{more}{seen}", timeout=120)

    assert _call(lab, folder, "logs", "nobody")[0] == 2
    status, text, error = _call(lab, folder, "logs", "front", user="tester")
    assert (status, text) != (0, "") or "systemd-journal" in error

    status, text, _ = _call(lab, folder, "plan", "shares", "--format=json")
    units = {item["unit"]: item for item in json.loads(text)["units"]}
    assert status == 0
    stranger = units["stranger.service"]
    assert (stranger["from"], stranger["parent"], stranger["weight"], stranger["may_use"]) == (
        "host",
        "shown.slice",
        700,
        0.5,
    )
    assert units["system.slice"]["from"] == "host"
    assert units["front.service"]["from"] == "plan"
    # The quota gives the stranger's rest to the others: by 200 to 100.
    rest = units["shown.slice"]["cpus"] - stranger["cpus"]
    assert units["front.service"]["cpus"] == pytest.approx(rest * 2 / 3, abs=1e-3)
