"""The input disk of a guest: services are charged for it as for any disk, and can write to it."""

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from cgroup_preflight.guest import image
from cgroup_preflight.guest.recipe import recipe_for
from cgroup_preflight.guest.session import Guest, input_path
from cgroup_preflight.guest.spec import GuestSpec
from tests.lab.configs import ENVIRONMENT, config, service, toml

_SOURCE = Path(__file__).parents[2] / "src"
#: The folder of the same files on the guest's own disk.
_OWN_DISK = "/var/tmp/own"
#: What a server with much code of its own does: loads it all, then waits.
_NODE_SCRIPT = "const m = require('module'); for (const n of m.builtinModules) { try { require(n) } catch {} }\n"


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Programs with large files."""
    folder = tmp_path_factory.mktemp("programs")
    shutil.copy(Path(os.environ["CGPF_LAB_FIXTURES"]) / "embedded", folder)
    if shutil.which("node"):
        shutil.copy(str(shutil.which("node")), folder)
        (folder / "load.js").write_text(f"{_NODE_SCRIPT}console.log('ready'); setInterval(() => {{}}, 1e6);\n")
    return folder


@pytest.fixture(scope="module")
def own(inputs: Path) -> Iterator[Guest]:
    """A guest of this module's own, because a run with --inside leaves its units."""
    root = image.ensure(recipe_for("debian-12"), image.cache_folder(os.environ))
    with Guest(GuestSpec(inputs={"src": _SOURCE, "programs": inputs}), root) as guest:
        done = guest.run(["cp", "-r", str(input_path("programs")), _OWN_DISK])
        assert done.returncode == 0, done
        yield guest


def _smoke(guest: Guest, name: str, services: Mapping[str, Any]) -> dict[str, Any]:
    """The report of `smoke --inside`, as the host starts it in a guest."""
    guest.write_file(f"/var/tmp/{name}/cgroup-preflight.toml", toml(config(services)).encode())
    argv = ["python3", "-m", "cgroup_preflight", "smoke", "--inside", "--engine=systemd", "--format=json"]
    done = guest.run(argv, env=ENVIRONMENT, cwd=f"/var/tmp/{name}", timeout=300)
    report: dict[str, Any] = json.loads(done.stdout)
    assert report["verdict"] == "pass", (report["findings"], done.stderr)
    return report


def _peaks(report: dict[str, Any]) -> dict[str, int]:
    return {item["name"]: item["memory_peak_bytes"] for item in report["services"]}


def test_a_program_is_charged_for_its_file_as_on_the_guests_own_disk(own: Guest, inputs: Path) -> None:
    """40 MiB of data in a Go program, and node where this machine has it: within 10 % of the same on the root disk."""
    services = {}
    for place, folder in (("in", str(input_path("programs"))), ("own", _OWN_DISK)):
        services[f"go-{place}"] = service(f"{folder}/embedded", MemoryMax="128M", ready="log:embedded: ready")
        if (inputs / "node").exists():
            services[f"node-{place}"] = service(
                f"{folder}/node",
                f"{folder}/load.js",
                MemoryMax="256M",
                ready="log:ready",
                smoke={"start_timeout": "60s"},
            )
    peaks = _peaks(_smoke(own, "peaks", services))
    assert peaks["go-own"] > 40 << 20
    for name in {item.partition("-")[0] for item in peaks}:
        there, here = peaks[f"{name}-own"], peaks[f"{name}-in"]
        assert abs(here - there) <= there / 10, peaks


def test_a_limit_below_the_file_makes_the_service_wait_for_its_own_pages(own: Guest) -> None:
    """The counter-test: with less memory than the program's file, the peak is the limit and the kernel had to reclaim."""
    small = {"go": service(str(input_path("programs/embedded")), MemoryMax="24M", ready="log:embedded: ready")}
    report = _smoke(own, "small", small)
    # The kernel charges in batches, and its peak can be some pages above what it then allows.
    assert abs(_peaks(report)["go"] - (24 << 20)) < 256 << 10
    events = [
        item["evidence"].get("go.service memory.events max", 0)
        for item in report["findings"]
        if item["code"] == "CGP509"
    ]
    assert max(events) > 0
