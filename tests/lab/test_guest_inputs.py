"""The input disk of a guest: services are charged for it as for any disk, and can write to it."""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from ci.prometheus_guest import unpacked

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
_LOADER = "loader"
_PROMETHEUS = "/var/tmp/prometheus.yml"
_SLOW = {"start_timeout": "60s"}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Programs with large files."""
    folder = tmp_path_factory.mktemp("programs")
    shutil.copy(Path(os.environ["CGPF_LAB_FIXTURES"]) / "embedded", folder)
    shutil.copy(unpacked(image.cache_folder(os.environ).parent / "lab-prometheus") / "prometheus", folder)
    if node := shutil.which("node"):
        _copy_whole(Path(node), folder / "node")
        (folder / "load.js").write_text(f"{_NODE_SCRIPT}console.log('ready'); setInterval(() => {{}}, 1e6);\n")
    return folder


def _copy_whole(program: Path, folder: Path) -> None:
    """The program and every library that it loads, also the loader: Debian's node has a dozen that no small image has."""
    folder.mkdir()
    shutil.copy(program, folder / "program")
    for path in re.findall(
        r"(/\S+) \(0x", subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout
    ):
        shutil.copy(path, folder / (_LOADER if Path(path).name.startswith("ld-linux") else ""))


@pytest.fixture(scope="module")
def own(inputs: Path) -> Iterator[Guest]:
    """A guest of this module's own, because a run with --inside leaves its units. No page is reclaimed for want of memory."""
    root = image.ensure(recipe_for("debian-12"), image.cache_folder(os.environ))
    with Guest(GuestSpec(inputs={"src": _SOURCE, "programs": inputs}, memory_mib=1024), root) as guest:
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


def _go(folder: str, number: int) -> dict[str, Any]:
    return service(f"{folder}/embedded", MemoryMax="128M", ready="log:embedded: ready")


def _prometheus(folder: str, number: int) -> dict[str, Any]:
    address, data = f"127.0.0.1:{9190 + number}", f"/var/tmp/data-{number}"
    words = (f"--config.file={_PROMETHEUS}", f"--storage.tsdb.path={data}", f"--web.listen-address={address}")
    return service(f"{folder}/prometheus", *words, MemoryMax="384M", ready=f"http://{address}/-/ready", smoke=_SLOW)


def _node(folder: str, number: int) -> dict[str, Any]:
    words = ("--library-path", f"{folder}/node", f"{folder}/node/program", f"{folder}/load.js")
    return service(f"{folder}/node/{_LOADER}", *words, MemoryMax="384M", ready="log:ready", smoke=_SLOW)


#: The service of each program from a folder (with a number, for those that listen), and the least peak of a right reading.
_PROGRAMS: dict[str, tuple[Callable[[str, int], dict[str, Any]], int]] = {
    "go": (_go, 40 << 20), "prometheus": (_prometheus, 40 << 20), "node": (_node, 30 << 20),
}  # fmt: skip


@pytest.mark.parametrize("name", _PROGRAMS)
def test_a_program_is_charged_for_its_file_as_on_the_guests_own_disk(
    own: Guest, inputs: Path, name: str, say: Callable[..., None]
) -> None:
    """A Go program with 40 MiB of data, Prometheus, node: within 10 % of the same on the root disk."""
    if name == "node" and not (inputs / "node").exists():
        pytest.skip("no program `node` on this machine; .ci/run installs it")
    make, least = _PROGRAMS[name]
    own.write_file(_PROMETHEUS, b"global: {}\n")
    made = {"in": make(str(input_path("programs")), 0), "own": make(_OWN_DISK, 1)}
    peaks = _peaks(_smoke(own, f"peaks-{name}", made))
    say(f"{name}: peak {peaks['in']:,} bytes as an input, {peaks['own']:,} on the guest's own disk")
    assert peaks["own"] > least
    assert abs(peaks["in"] - peaks["own"]) <= peaks["own"] / 10, peaks


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
