"""The model of the Go runtime against what programs of five toolchains really report, under a real kernel.

Quotas on the unit, on the slice, on both, none, fractional, above the number of CPUs; switches in the environment.
The same limits go to systemd and, as the config would have them, to the model.
"""

import json
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from cgroup_preflight.config.load import parse
from cgroup_preflight.core.limits import Chain
from cgroup_preflight.golang.buildinfo import read
from cgroup_preflight.golang.runtime import predict
from cgroup_preflight.guest.session import Guest, input_path
from cgroup_preflight.plan.limits import chain_of

CPUS = 4
_MAX_INT64 = (1 << 63) - 1
_PROBES = input_path("fixtures") / "probes"
_SCRIPT = f"""
own=/sys/fs/cgroup$(cut -d: -f3 /proc/self/cgroup)
echo "cpu.max $(cat $own/cpu.max 2>/dev/null || echo absent)"
set -f
for probe in $(ls {_PROBES}); do ( set -- $({_PROBES}/$probe 2>&1); printf '%s\\n' "$probe $*" ) & done
wait
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """Where the quota is, in systemd's spelling; `variables` is the environment."""

    unit: Mapping[str, str] = field(default_factory=dict)
    slice: Mapping[str, str] = field(default_factory=dict)
    variables: Mapping[str, str] = field(default_factory=dict)


CASES = {
    "none": Case(),
    "unit": Case(unit={"CPUQuota": "300%"}),
    "slice": Case(slice={"CPUQuota": "300%"}),
    "both-slice-tighter": Case(unit={"CPUQuota": "400%"}, slice={"CPUQuota": "200%"}),
    "both-unit-tighter": Case(unit={"CPUQuota": "200%"}, slice={"CPUQuota": "300%"}),
    "fractional": Case(unit={"CPUQuota": "250%"}),
    "just-above-two": Case(unit={"CPUQuota": "201%"}),
    "one": Case(unit={"CPUQuota": "100%"}),
    "below-one": Case(unit={"CPUQuota": "40%"}),
    "above-the-cpus": Case(unit={"CPUQuota": "800%"}),
    "long-period": Case(unit={"CPUQuota": "150%", "CPUQuotaPeriodSec": "1s"}),
    "weight-only": Case(unit={"CPUWeight": "50"}),
    "mask": Case(unit={"AllowedCPUs": "1-3"}),
    "mask-and-quota": Case(unit={"AllowedCPUs": "0-2", "CPUQuota": "350%"}),
    "mask-of-one": Case(unit={"AllowedCPUs": "2", "CPUQuota": "300%"}),
    "mask-of-the-slice": Case(slice={"AllowedCPUs": "0-1"}),
    "number": Case(unit={"CPUQuota": "200%"}, variables={"GOMAXPROCS": "7"}),
    "number-ignored": Case(unit={"CPUQuota": "200%"}, variables={"GOMAXPROCS": "1.5"}),
    "number-zero": Case(unit={"CPUQuota": "200%"}, variables={"GOMAXPROCS": "0"}),
    "number-plus": Case(unit={"CPUQuota": "200%"}, variables={"GOMAXPROCS": "+3"}),
    "switched-on": Case(unit={"CPUQuota": "300%"}, variables={"GODEBUG": "containermaxprocs=1,updatemaxprocs=1"}),
    "switched-off": Case(unit={"CPUQuota": "300%"}, variables={"GODEBUG": "containermaxprocs=0"}),
    "last-wins": Case(
        unit={"CPUQuota": "300%"}, variables={"GODEBUG": "containermaxprocs=0,gctrace=0,containermaxprocs=1"}
    ),
    "no-number-in-godebug": Case(unit={"CPUQuota": "300%"}, variables={"GODEBUG": "containermaxprocs=yes"}),
    "memory-limit": Case(unit={"MemoryMax": "200M"}, variables={"GOMEMLIMIT": "180MiB"}),
    "memory-unlimited": Case(unit={"MemoryMax": "200M"}),
    "memory-off": Case(variables={"GOMEMLIMIT": "off"}),
    "memory-bytes": Case(variables={"GOMEMLIMIT": "123456789"}),
    "memory-malformed": Case(variables={"GOMEMLIMIT": "900M"}),
    "memory-fraction": Case(variables={"GOMEMLIMIT": "0.9GiB"}),
    "memory-plus": Case(variables={"GOMEMLIMIT": "+900MiB"}),
}


def _unit_settings(texts: Mapping[str, str]) -> Any:
    lines = "\n".join(f'{name} = "{value}"' for name, value in texts.items())
    config = parse(f'[project]\nname = "lab"\n[slices.made]\n{lines}\n'.encode(), shown="c.toml", folder="/")
    return config.slices[0].settings


def chain_for(case: Case) -> Chain:
    """The limits of a case, as the plan gives them to the model."""
    return chain_of([("the unit", _unit_settings(case.unit)), ("the slice", _unit_settings(case.slice))])


@pytest.fixture(scope="session")
def local_probes() -> dict[str, Path]:
    """The probes on this side, by name: their build info is what the model starts from."""
    folder = Path(os.environ.get("CGPF_LAB_FIXTURES", ""), "probes")
    if not folder.is_dir():
        pytest.fail("no probes: run `nox -s lab`, or ci/build_probes.py --out $CGPF_LAB_FIXTURES/probes", pytrace=False)
    return {path.name: path for path in sorted(folder.iterdir())}


def run_case(guest: Guest, name: str, case: Case) -> dict[str, str]:
    """What each probe printed, by its name, and the unit's own cpu.max."""
    slice_name = f"gm{name.replace('-', '')}.slice"
    lines = "\n".join(f"{key}={value}" for key, value in case.slice.items())
    guest.write_file(f"/run/systemd/system/{slice_name}", f"[Slice]\n{lines}\n".encode())
    properties = [f"--property={key}={value}" for key, value in case.unit.items()]
    variables = [f"--setenv={key}={value}" for key, value in case.variables.items()]
    done = guest.run(
        [
            "systemd-run",
            "--quiet",
            "--wait",
            "--pipe",
            f"--slice={slice_name}",
            *properties,
            *variables,
            "sh",
            "-c",
            _SCRIPT.replace("$", "$$"),
        ],
        timeout=120,
    )
    return {line.split(" ", 1)[0]: line.split(" ", 1)[1] for line in done.text.splitlines() if " " in line}


@pytest.mark.requires("cpus>=4", "cpuset")
@pytest.mark.parametrize("name", CASES)
def test_the_model_is_what_really_happens(guest: Guest, local_probes: dict[str, Path], name: str) -> None:
    case = CASES[name]
    seen = run_case(guest, name, case)
    chain = chain_for(case)
    wrong = []
    for probe, path in local_probes.items():
        expected = predict(read(path), case.variables, chain, frozenset(range(CPUS)))
        text = seen[probe]
        if expected.fatal:
            if "malformed GOMEMLIMIT" not in text:
                wrong.append(f"{probe}: should die, said {text[:200]}")
            continue
        said = json.loads(text) if text.startswith("{") else {"text": text}
        limit = said.get("memory_limit")
        real = (said.get("gomaxprocs"), None if limit == _MAX_INT64 else limit)
        if real != (expected.gomaxprocs, expected.gomemlimit_bytes):
            wrong.append(f"{probe}: {real}, the model says {expected}; cpu.max {seen['cpu.max']}; {text[:300]}")
    print(f"{name}: cpu.max of the unit: {seen['cpu.max']}; {len(local_probes)} programs")
    assert not wrong, "\n".join(wrong)


def _output(unit: str) -> str:
    """A file, because each question to the journal takes an emulated machine a second."""
    return f"/run/{unit}.output"


def _numbers(guest: Guest, unit: str, *, more_than: int, until: int | None = None) -> list[int]:
    """GOMAXPROCS by line of a probe's output, once there are enough lines or the last one has the number."""
    deadline = time.monotonic() + 120
    while True:
        # The file comes with the program, and what follows its last newline is no whole line.
        lines = guest.run(["cat", _output(unit)]).text.split("\n")[:-1]
        numbers = [json.loads(line)["gomaxprocs"] for line in lines]
        if len(numbers) > more_than or (until is not None and numbers[-1:] == [until]):
            return numbers
        assert time.monotonic() < deadline, f"{unit}: {len(numbers)} lines"
        time.sleep(0.3)  # the probes' own interval


@pytest.mark.requires("cpus>=4")
def test_who_follows_a_change_of_the_quota(guest: Guest, local_probes: dict[str, Path]) -> None:
    units = {name: f"follow-{number}.service" for number, name in enumerate(local_probes)}
    for name, unit in units.items():
        done = guest.run(
            [
                "systemd-run",
                "--quiet",
                f"--unit={unit}",
                "--property=CPUQuota=200%",
                f"--property=StandardOutput=append:{_output(unit)}",
                str(_PROBES / name),
                "--count=0",
                "--every=300ms",
            ]
        )
        assert done.returncode == 0, done
    before = {name: _numbers(guest, unit, more_than=0) for name, unit in units.items()}
    for unit in units.values():
        guest.run(["systemctl", "set-property", "--runtime", unit, "CPUQuota=350%"])
    chain = chain_for(Case(unit={"CPUQuota": "200%"}))
    # All have the new quota from here on.
    seen = {name: len(_numbers(guest, unit, more_than=len(before[name]))) for name, unit in units.items()}
    wrong = []
    for name, unit in units.items():
        expected = predict(read(local_probes[name]), {}, chain, frozenset(range(CPUS)))
        after = CPUS if expected.follows_cpu_max else expected.gomaxprocs
        # A runtime that follows looks once a second; one that does not gets the time of its next 15 lines to prove it.
        numbers = _numbers(guest, unit, more_than=seen[name] + 15, until=after if expected.follows_cpu_max else None)
        guest.run(["systemctl", "stop", unit])
        if (numbers[0], numbers[-1]) != (expected.gomaxprocs, after):
            wrong.append(f"{name}: {numbers}, the model says {expected}")
    assert not wrong, "\n".join(wrong)
