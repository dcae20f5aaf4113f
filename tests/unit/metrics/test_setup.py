"""The command's start: which host, which slices, which files, and what is refused."""

import asyncio
import os
import signal
import stat
from pathlib import Path

import pytest
from ci.cgroup_tree import CgroupTree

from cgroup_preflight.cli import exporter, main
from cgroup_preflight.core.errors import ExitStatus, HostError, UsageError
from cgroup_preflight.host.fs import LiveFs
from cgroup_preflight.metrics.exposition import Style
from cgroup_preflight.metrics.service import Service
from cgroup_preflight.metrics.setup import cgroup_mount, readings_of, scope_of

_PROC = "22 1 0:20 / /proc rw - proc proc rw\n"
_HOSTS = {
    "hybrid": "30 1 0:26 / /sys/fs/cgroup ro - tmpfs tmpfs ro\n31 30 0:27 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n32 30 0:28 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n",
    "legacy": "31 1 0:27 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n",
    "none": "",
}  # fmt: skip


def _host(root: Path, mounts: str) -> LiveFs:
    (root / "proc" / "self").mkdir(parents=True)
    (root / "proc" / "self" / "mountinfo").write_text(_PROC + mounts)
    return LiveFs(str(root))


@pytest.mark.parametrize(("kind", "says"), [("hybrid", "hybrid"), ("legacy", "legacy"), ("none", "no cgroup file")])
def test_a_host_without_cgroup_v2_is_refused_with_the_remedy(tmp_path: Path, kind: str, says: str) -> None:
    with pytest.raises(HostError, match=says) as caught:
        cgroup_mount(_host(tmp_path, _HOSTS[kind]))
    assert caught.value.exit_status is ExitStatus.UNVERIFIED
    assert "systemd.unified_cgroup_hierarchy=1" in caught.value.remedy.title


def test_a_host_whose_mounts_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(HostError, match="cannot be read"):
        cgroup_mount(LiveFs(str(tmp_path)))


def test_the_mount_of_a_host_with_cgroup_v2(tmp_path: Path) -> None:
    device = os.stat(tmp_path).st_dev
    line = f"30 1 {os.major(device)}:{os.minor(device)} / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n"
    (tmp_path / "sys" / "fs" / "cgroup").mkdir(parents=True)
    assert cgroup_mount(_host(tmp_path, line)) == "/sys/fs/cgroup"


def test_slices_by_name(cgroups: CgroupTree) -> None:
    fs = LiveFs(str(cgroups.top))
    assert scope_of(fs, "", ["a-n.slice", "b"], 2).slices == ("/a.slice/a-n.slice", "/b.slice")
    assert scope_of(fs, "", ["b.slice", "-.slice"], 0).slices == ()
    assert scope_of(fs, "", [], 0).slices == ()


@pytest.mark.parametrize(
    ("name", "says"), [("a-m.slice", "did you mean a-n.slice?"), ("x.slice", "systemctl"), ("a--b", "system.slice")]
)
def test_a_slice_that_does_not_exist(cgroups: CgroupTree, name: str, says: str) -> None:
    with pytest.raises(UsageError) as caught:
        scope_of(LiveFs(str(cgroups.top)), "", [name], 0)
    assert says in caught.value.remedy.title


def test_readings_with_and_without_reports(cgroups: CgroupTree) -> None:
    fs = LiveFs(str(cgroups.top))
    for follow in (True, False):
        readings, watch = readings_of(LiveFs("/"), str(cgroups.top), scope_of(fs, "", [], 0), follow=follow)
        assert (watch is not None) is follow
        readings.refresh()
        assert b"slice_pids_current" in b"".join(readings.render(Style.TEXT, packed=False))
        readings.close()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--interval", "0.1s"], "between 1s and 5min"),
        (["--interval", "1h"], "between 1s and 5min"),
        (["--interval", "soon"], "not a time span"),
        (["--depth", "-1"], "depth"),
        (["--depth", "many"], "not a number of levels"),
        (["--listen", "9753"], "not ADDRESS:PORT"),
        (["--listen", "127.0.0.1:99999"], "not ADDRESS:PORT"),
        (["--listen", ":1"], "not ADDRESS:PORT"),
        (["--listen", "\x1b[31m:x"], "not ADDRESS:PORT"),
        (["--once", "now"], "unrecognized"),
    ],
)
def test_wrong_options(words: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    try:
        status = main(["exporter", *words])
    except SystemExit as left:
        status = int(left.code or 0)
    err = capsys.readouterr().err
    assert status == 2
    assert says in err
    assert "\x1b" not in err


@pytest.mark.parametrize(
    ("text", "address"),
    [("127.0.0.1:9753", ("127.0.0.1", 9753)), ("[::1]:0", ("::1", 0)), ("localhost:80", ("localhost", 80))],
)
def test_addresses(text: str, address: tuple[str, int]) -> None:
    assert exporter._address(text) == address


@pytest.fixture
def service(cgroups: CgroupTree) -> Service:
    fs = LiveFs(str(cgroups.top))
    return Service(readings_of(fs, str(cgroups.top), scope_of(fs, "", [], 0), follow=False)[0], 300.0)


@pytest.mark.parametrize(
    ("number", "status"),
    [
        (signal.SIGINT, ExitStatus.INTERRUPTED),
        (signal.SIGTERM, ExitStatus.TERMINATED),
        (signal.SIGHUP, ExitStatus.TERMINATED),
    ],
)
def test_a_signal_ends_it(service: Service, number: signal.Signals, status: ExitStatus) -> None:
    async def main() -> int:
        asyncio.get_running_loop().call_later(0.2, os.kill, os.getpid(), number)
        return await asyncio.wait_for(exporter._work(service, None, ("127.0.0.1", 0)), 30)

    assert asyncio.run(main()) == status


def test_a_defect_in_a_reading_is_not_hidden(service: Service) -> None:
    def fail() -> None:
        raise ZeroDivisionError

    service._readings.refresh = fail  # type: ignore[method-assign]
    with pytest.raises(ZeroDivisionError):
        asyncio.run(asyncio.wait_for(exporter._work(service, None, None), 30))


def test_an_address_of_another_machine_is_refused(service: Service) -> None:
    with pytest.raises(UsageError, match="cannot listen") as caught:
        asyncio.run(asyncio.wait_for(exporter._work(service, None, ("192.0.2.1", 1)), 30))
    assert "--listen" in caught.value.remedy.title


def test_once_writes_a_whole_file(cgroups: CgroupTree, tmp_path: Path) -> None:
    fs = LiveFs(str(cgroups.top))
    readings, _ = readings_of(fs, str(cgroups.top), scope_of(fs, "", [], 0), follow=False)
    target = tmp_path / "slices.prom"
    exporter._publisher(readings, str(target))(b"second\n")
    assert target.read_bytes() == b"second\n"
    assert exporter._once(readings, str(target)) == 0
    text = target.read_text()
    assert text.startswith("# HELP slice_cpu_usage_seconds_total ")
    assert text.endswith("\n")
    assert "# EOF" not in text
    assert stat.S_IMODE(target.stat().st_mode) == 0o644
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []
    with pytest.raises(UsageError):
        exporter._publisher(readings, str(tmp_path / "none" / "slices.prom"))
    readings.close()
