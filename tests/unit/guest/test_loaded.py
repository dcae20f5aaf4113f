"""The tool in the memory of the agent, before the machine's state is saved."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from cgroup_preflight.checks import CHECKS
from cgroup_preflight.guest.bytecode import source_folder
from cgroup_preflight.guest.inside import loaded

SOURCE = str(source_folder().parent)
#: In a Python of its own, started as the agent is: without site packages, and with the agent's package first.
_RUN = """
import gc, json, sys
sys.path.insert(0, AGENT)
from cgroup_preflight.guest.inside import copies, loaded
loaded.load([FOLDER, "/nowhere"])
names = sorted(sys.modules)
copies.tool(["--version"], [FOLDER, "/nowhere"])
print(json.dumps([names, sorted(sys.modules), sys.path, list(sys.path_importer_cache), gc.get_freeze_count()]))
"""


@pytest.fixture
def agent(tmp_path: Path) -> Path:
    """The agent's folder, as it is on the input disk."""
    (tmp_path / "cgroup_preflight" / "guest").mkdir(parents=True)
    (tmp_path / "cgroup_preflight" / "guest" / "inside").symlink_to(source_folder() / "guest" / "inside")
    return tmp_path


@pytest.mark.starts_processes
def test_the_modules_of_a_run_are_loaded_once_and_nothing_large_is_one_of_them(agent: Path) -> None:
    text = _RUN.replace("AGENT", repr(str(agent))).replace("FOLDER", repr(SOURCE))
    done = subprocess.run([sys.executable, "-S", "-c", text], capture_output=True, text=True, timeout=60, check=True)
    before, after, path, cached, frozen = json.loads(done.stdout.splitlines()[-1])
    assert after == before
    assert {f"cgroup_preflight.checks.{name}" for name in CHECKS.values()} <= set(before)
    assert {"cgroup_preflight.smoke.probes", "cgroup_preflight.engines.systemd", "http.client"} <= set(before)
    assert not {"ssl", "asyncio", "cgroup_preflight.publish", "cgroup_preflight.guest.inside.loaded"} & set(before)
    assert (path[:2], "" in path, str(agent) in path) == ([SOURCE, "/nowhere"], False, False)
    # What is in the folders is looked up again, on the disk of this run.
    assert not [place for place in cached if place.startswith(SOURCE)]
    assert frozen > 10_000


def test_another_folder_than_the_one_that_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    modules = {name: module for name, module in sys.modules.items() if not name.startswith("cgroup_preflight.")}
    monkeypatch.setattr(sys, "modules", {**modules, "cgroup_preflight.cli": None})
    monkeypatch.setattr(sys, "path", ["/one", "/libraries", "", "/python", SOURCE])
    loaded.use(["/one", "/libraries"])
    assert "cgroup_preflight.cli" in sys.modules
    loaded.use(["/two", "/libraries"])
    assert not [name for name in sys.modules if name.startswith("cgroup_preflight")]
    assert sys.path[:2] == ["/two", "/libraries"]
    assert not {"", SOURCE} & set(sys.path)


def test_the_order_of_the_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loaded, "__file__", str(tmp_path / "cgroup_preflight" / "guest" / "inside" / "loaded.py"))
    assert loaded.order() is None
    order = loaded.Order(folders=["/a", "/b"], disk="/dev/x", place="/run/x")
    (tmp_path / "load.json").write_text(json.dumps(order._asdict()))
    assert loaded.order() == order


def test_a_disk_that_cannot_be_changed_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "disk").write_bytes(b"no disk")
    with pytest.raises(OSError, match=str(tmp_path)):
        loaded.unmount("/dev/null", str(tmp_path))
    with pytest.raises(OSError):
        loaded.mount(str(tmp_path / "disk"), str(tmp_path))
