"""Seeded quotas, CPU sets and variables for Go programs of each toolchain: what the model predicts from the plan is what
the runtime chooses under the plan's own unit files, on each systemd.
"""

import json
import random
from collections.abc import Container, Iterator, Mapping
from pathlib import Path

import pytest

from cgroup_preflight.config.load import parse
from cgroup_preflight.core.records import replace
from cgroup_preflight.golang.buildinfo import read
from cgroup_preflight.golang.runtime import RuntimePrediction, predict
from cgroup_preflight.guest.session import Guest, input_path
from cgroup_preflight.plan.build import build_plan
from cgroup_preflight.plan.limits import service_chain
from cgroup_preflight.plan.model import Plan
from cgroup_preflight.plan.unitfile import drop_in_files, slice_files
from tests.lab.arithmetic_judge import SEED, SYSTEMS
from tests.lab.arithmetic_values import span
from tests.lab.conftest import Boot
from tests.lab.test_go_runtime import CPUS, local_probes  # noqa: F401 - a fixture

_COUNT = 16
#: The cases that the ordinary run tries on each distribution, together all; `measured` tries all on each.
_HALVES = {"debian-12": range(_COUNT // 2), "debian-13": range(_COUNT // 2, _COUNT)}
_FOLDER = "/var/tmp/go-values"
#: Services at a time: more than the machine has CPUs, because those with a small quota mostly wait.
_AT_ONCE = 6
_MAX_INT64 = (1 << 63) - 1
_LIMITS = ("64MiB", "900M", "1048576KiB", "off", "+64MiB", "0", "1.5GiB", "9223372036854775807")
_PROCS = ("3", "7", "0", "+2", "1.5", "03")
_GODEBUG = ("containermaxprocs=0", "containermaxprocs=1", "containermaxprocs=0,containermaxprocs=1")
_PROBES = input_path("fixtures") / "probes"
#: With nothing but the shell around the programs: each process costs an emulated machine as much as a small program.
_SCRIPT = f"""\
exec > {_FOLDER}/$1
set -f
for probe in $(ls {_PROBES}); do set -- $({_PROBES}/$probe 2>&1); printf '%s\\n' "$probe $*"; done
"""
_UNIT = f"[Service]\nType=oneshot\nTimeoutStartSec=600\nExecStart=/bin/sh {_FOLDER}/probes.sh %N\n"


@pytest.fixture(params=[pytest.param(name, marks=pytest.mark.newest) for name in SYSTEMS if name.endswith("qemu")])
def system(request: pytest.FixtureRequest, boot: Boot) -> Guest:
    """A guest of each distribution with some CPUs: with less than three the runtime has nothing to choose."""
    return boot(base=SYSTEMS[request.param])


def _tables(rng: random.Random, wanted: Container[int]) -> Iterator[str]:
    """For each case a service in a slice of its own: a quota on either, on both or on none, and what else matters."""
    for number in range(_COUNT):
        own, above = ({"CPUQuota": f"{rng.uniform(10, 490):.{rng.randrange(3)}f}%"} for _ in range(2))
        if rng.random() < 0.5:
            own["CPUQuotaPeriodSec"] = span(rng)
        settings: dict[str, dict[str, str]] = {"slice": {}, "service": {}}
        kind = number % 4
        settings["service"] |= own if kind in (0, 1) else {}
        settings["slice"] |= above if kind in (1, 2) else {}
        if rng.random() < 0.4:
            cpus = rng.sample(range(CPUS), rng.randint(1, CPUS))
            settings[rng.choice(("slice", "service"))]["AllowedCPUs"] = ",".join(map(str, sorted(cpus)))
        variables = {}
        if number % 2 == 0:
            variables["GOMEMLIMIT"] = _LIMITS[number // 2 % len(_LIMITS)]
        if number % 5 == 1:
            variables["GOMAXPROCS"] = _PROCS[number // 5 % len(_PROCS)]
        if number % 5 == 3:
            variables["GODEBUG"] = rng.choice(_GODEBUG)
        if number not in wanted:
            continue
        yield _table(f"slices.go{number:02}", settings["slice"])
        yield _table(f"services.go{number:02}", {"binary": "/bin/sh", "slice": f"go{number:02}", **settings["service"]})
        yield _table(f"services.go{number:02}.Environment", variables)


def _table(name: str, items: Mapping[str, str]) -> str:
    return "\n".join([f"[{name}]", *(f"{key} = {json.dumps(text)}" for key, text in items.items()), ""])


def _seen(guest: Guest, plan: Plan) -> dict[tuple[str, str], str]:
    """What each program printed, by service and program."""
    guest.write_file(f"{_FOLDER}/probes.sh", _SCRIPT.encode())
    units = [item.unit for item in plan.services]
    files = {item.path: item.content for item in (*slice_files(plan), *drop_in_files(plan))}
    for path, text in {**files, **dict.fromkeys(units, _UNIT)}.items():
        guest.write_file(f"/run/systemd/system/{path}", text.encode())
    script = f"systemctl daemon-reload; echo {' '.join(units)} | xargs -n 1 -P {_AT_ONCE} systemctl start"
    done = guest.run(["sh", "-c", script], timeout=800)
    assert done.returncode == 0, done
    found = {}
    for service in plan.services:
        for line in guest.read_file(f"{_FOLDER}/{service.label}").decode().splitlines():
            program, _, text = line.partition(" ")
            found[service.label, program] = text
    return found


def _disagrees(prediction: RuntimePrediction, text: str) -> str:
    """What the program says instead of what was predicted; empty where both agree."""
    if prediction.fatal:
        return "" if "malformed GOMEMLIMIT" in text else text
    try:
        said = json.loads(text)
    except ValueError:
        return text or "nothing"
    limit = prediction.gomemlimit_bytes if prediction.gomemlimit_bytes is not None else _MAX_INT64
    real = (said["gomaxprocs"], said["memory_limit"])
    return "" if real == (prediction.gomaxprocs, limit) else str(real)


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("whole", [False, pytest.param(True, marks=pytest.mark.measured)], ids=["part", "all"])
def test_the_runtime_chooses_what_the_model_predicts(
    system: Guest,
    whole: bool,
    local_probes: dict[str, Path],  # noqa: F811
    capsys: pytest.CaptureFixture[str],
) -> None:
    wanted = range(_COUNT) if whole else _HALVES.get(system.spec.distro, range(_COUNT))
    text = '[project]\nname = "go"\n' + "".join(_tables(random.Random(SEED), wanted))
    plan = build_plan(parse(text.encode(), shown="c.toml", folder="/"))
    seen = _seen(system, plan)
    visible = frozenset(range(CPUS))
    predictions = {
        (service.label, name): predict(read(path), dict(service.environment), service_chain(plan, service), visible)
        for service in plan.services for name, path in local_probes.items()
    }  # fmt: skip
    assert set(predictions) == set(seen)
    wrong = [
        f"{key}: {said}, the model says {predictions[key]}" for key, one in predictions.items()
        if (said := _disagrees(one, seen[key]))
    ]  # fmt: skip
    with capsys.disabled():
        numbers = sorted({one.gomaxprocs or 0 for one in predictions.values()})
        fatal = sum(bool(one.fatal) for one in predictions.values())
        print(
            f"\n{system.spec.distro}: {len(predictions)} predictions, {len(wrong)} wrong, GOMAXPROCS {numbers}, {fatal} end"
        )
    assert not wrong, "\n".join(wrong)
    assert len(predictions) == len(wanted) * len(local_probes)
    assert len(local_probes) >= 5
    _finds_each_wrong_prediction(predictions, seen)


def _finds_each_wrong_prediction(
    predictions: Mapping[tuple[str, str], RuntimePrediction], seen: Mapping[tuple[str, str], str]
) -> None:  # fmt: skip
    """The other way: a prediction that is wrong by one is found, and so is one about a program that ends at once."""
    for key, right in predictions.items():
        altered = [replace(right, fatal="" if right.fatal else "malformed")]
        if not right.fatal:
            altered.append(replace(right, gomaxprocs=(right.gomaxprocs or 0) + 1))
            altered.append(replace(right, gomemlimit_bytes=(right.gomemlimit_bytes or 0) + 1))
        assert all(_disagrees(item, seen[key]) for item in altered), (key, right)
