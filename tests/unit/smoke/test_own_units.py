"""What a host must not do with a service, the users that a guest gets, and the devices of limits."""

from pathlib import Path

import pytest

from cgroup_preflight.config.load import load
from cgroup_preflight.config.model import Config
from cgroup_preflight.config.unit_source import UnitSource, UnitText
from cgroup_preflight.core.errors import ConfigError, HostError
from cgroup_preflight.core.reading import Known, Missing, Reading, Why
from cgroup_preflight.core.records import replace
from cgroup_preflight.engines.devices import devices_of
from cgroup_preflight.host.command import Completed
from cgroup_preflight.host.door import Door
from cgroup_preflight.plan.build import build_plan
from cgroup_preflight.smoke.own_units import create_files, create_users, own_unit_findings, refuse_on_host
from tests.unit.core.making import config_of


def _config(lines: str) -> Config:
    return config_of(f"[services.web]\nbinary = 'web'\nMemoryMax = '64M'\n{lines}\n")


@pytest.mark.parametrize(
    ("lines", "root", "user"),
    [
        ("LimitNOFILE = 1024", True, True),
        ("Type = 'notify'", True, True),
        ("EnvironmentFile = '/etc/web.env'", True, True),
        ("User = 'web'", True, False),
        ("Group = 'web'", True, False),
        ("AmbientCapabilities = 'CAP_NET_RAW'", True, False),
        ("StateDirectory = 'web'", False, False),
        ("RuntimeDirectory = 'web'", False, False),
        ("CacheDirectory = 'web'", False, False),
        ("LogsDirectory = 'web'", False, False),
        ("ConfigurationDirectory = 'web'", False, False),
    ],
)
def test_what_a_host_can_do_with_a_service(lines: str, root: bool, user: bool) -> None:
    config = _config(lines)
    for is_root, runs in ((True, root), (False, user)):
        if runs:
            refuse_on_host(config.services, "c.toml", root=is_root)
            continue
        with pytest.raises(ConfigError) as raised:
            refuse_on_host(config.services, "c.toml", root=is_root)
        (finding,) = raised.value.findings
        assert finding.message.startswith(lines.split()[0])
        assert finding.location is not None
        assert finding.location.line == 4
        assert "guest" in finding.remedies[0].title


@pytest.mark.parametrize("root", [False, True])
def test_a_unit_of_the_project_with_a_folder_of_the_host_is_refused_for_every_user(tmp_path: Path, root: bool) -> None:
    for line, refused in (("StateDirectory=web", True), ("LimitNOFILE=1024", False)):
        (tmp_path / "web.service").write_text(f"[Service]\nExecStart=/web\n{line}\n")
        path = tmp_path / "cgroup-preflight.toml"
        path.write_text("[project]\nname = 'shop'\n[services.web]\nunit = './web.service'\nMemoryMax = '64M'\n")
        services = load(path).services
        if not refused:
            refuse_on_host(services, "c.toml", root=root)
            continue
        with pytest.raises(ConfigError) as raised:
            refuse_on_host(services, "c.toml", root=root)
        assert "StateDirectory=web" in raised.value.findings[0].message


def test_all_that_needs_root_is_one_finding() -> None:
    config = _config("User = 'web'\nGroup = 'adm'\nAmbientCapabilities = 'CAP_NET_RAW'\nStateDirectory = 'web'")
    with pytest.raises(ConfigError) as raised:
        refuse_on_host(config.services, "c.toml", root=False)
    folders, root = raised.value.findings
    assert "StateDirectory=web" in folders.message
    assert root.message.startswith("User=web, Group=adm, AmbientCapabilities=CAP_NET_RAW needs root")


class _Programs:
    """A machine whose systemd-sysusers ends with a status; it keeps what it was given."""

    def __init__(self, status: int = 0) -> None:
        self.status = status
        self.given: list[str] = []

    def run(self, argv: tuple[str, ...], *, timeout: float, stdin: bytes = b"") -> "Reading[Completed]":
        assert argv in (("systemd-sysusers", "-"), ("systemd-tmpfiles", "--create", "-"))
        assert timeout > 0
        self.given += stdin.decode().splitlines()
        return Known(
            value=Completed(argv=argv, returncode=self.status, stdout="", stderr="no space"), source="systemd-sysusers"
        )


def _door(programs: _Programs) -> Door:
    return Door(files=None, processes=None, programs=programs, clock=None, network=None)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("lines", "created"),
    [
        ("", []),
        ("User = 'web'", ["u web -"]),
        ("User = 'web'\nGroup = 'shop'", ["g shop -", "u web -"]),
        ("User = 1000\nGroup = 0", []),
    ],
)
def test_a_guest_gets_the_users_of_a_config(lines: str, created: list[str]) -> None:
    programs = _Programs()
    create_users(_door(programs), _config(lines).services)
    assert programs.given == created


def test_users_of_units_and_of_the_config_are_created_once(tmp_path: Path) -> None:
    (tmp_path / "a.service").write_text("[Service]\nExecStart=/bin/a\nUser=shop\nGroup=adm\nSupplementaryGroups=x y\n")
    text = "[services.a]\nunit = './a.service'\n[services.b]\nbinary = 'b'\nUser = 'shop'\n"
    programs = _Programs()
    create_users(_door(programs), config_of(text, folder=str(tmp_path)).services)
    assert programs.given == ["g adm -", "g x -", "g y -", "u shop -"]


@pytest.mark.parametrize(
    ("user", "created"),
    [
        ("%i", ["u shop - - /home/shop /bin/sh", "d /home/shop 0755 shop shop"]),
        ("shop", ["u shop - - /home/shop /bin/sh", "d /home/shop 0755 shop shop"]),
        ("daemon-%i", ["u daemon-shop -"]),
        ("www", ["u www -"]),
    ],
)
def test_a_unit_that_runs_for_a_person_has_a_home(tmp_path: Path, user: str, created: list[str]) -> None:
    """systemd sets $HOME only for a user who has one."""
    (tmp_path / "sync@.service").write_text(f"[Service]\nExecStart=/bin/a\nUser={user}\n")
    text = "[services.a]\nunit = './sync@.service'\ninstance = 'shop'\n"
    programs = _Programs()
    create_users(_door(programs), config_of(text, folder=str(tmp_path)).services)
    assert programs.given == created


def test_a_guest_that_cannot_create_users_says_why() -> None:
    with pytest.raises(HostError, match="no space"):
        create_users(_door(_Programs(status=1)), _config("User = 'web'").services)


class _Files:
    """A machine with devices and their files in /sys."""

    def __init__(self, devices: dict[str, str], files: dict[str, str]) -> None:
        self.devices, self.files = devices, files

    def block_device(self, path: str) -> Reading[str]:
        return self._known(self.devices, path)

    def exists(self, path: str) -> Reading[bool]:
        return Known(value=path in self.files, source=path)

    def read(self, path: str) -> Reading[str]:
        return self._known(self.files, path)

    def names(self, path: str, keep: tuple[str, ...] | None = None) -> Reading[tuple[str, ...]]:
        names = {item[len(path) + 1 :].split("/")[0] for item in self.files if item.startswith(f"{path}/")}
        return Known(value=tuple(sorted(names)), source=path)

    def _known(self, texts: dict[str, str], path: str) -> Reading[str]:
        return Known(value=texts[path], source=path) if path in texts else Missing(source=path, why=Why.ABSENT)


_SYS = "/sys/dev/block"


@pytest.mark.parametrize(
    ("number", "files", "found"),
    [
        ("8:0", {}, "8:0"),
        ("8:1", {f"{_SYS}/8:1/partition": "1", f"{_SYS}/8:1/../dev": "8:0\n"}, "8:0"),
        (
            "253:0",
            {
                f"{_SYS}/253:0/slaves/sda1/dev": "8:1\n",
                f"{_SYS}/8:1/partition": "1",
                f"{_SYS}/8:1/../dev": "8:0\n",
            },
            "8:0",
        ),
        ("253:1", {f"{_SYS}/253:1/slaves/sda/dev": "8:0\n", f"{_SYS}/253:1/slaves/sdb/dev": "8:16\n"}, "253:1"),
        ("0:25", {}, None),
    ],
    ids=["disk", "partition", "encrypted partition", "of two disks", "no device"],
)
def test_the_disk_of_a_limit(number: str, files: dict[str, str], found: str | None) -> None:
    plan = build_plan(
        _config("IOReadBandwidthMax = ['/dev/x 5M', '/absent 1M']\n[slices.s]\nIOWriteIOPSMax = '/dev/x 9'")
    )
    assert devices_of(plan, _Files({"/dev/x": number}, files)) == ({"/dev/x": found} if found else {})


def test_no_device_is_looked_for_without_a_limit() -> None:
    assert devices_of(build_plan(_config("IOWeight = 9")), None) == {}  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("drop_in", "status", "words"),
    [
        ("", "skip", "MemoryMax=64M of the config wins over MemoryMax=1G of ./web.service"),
        ("05-web.conf", "skip", "MemoryMax=64M of the config wins over MemoryMax=2G of ./web.service"),
        (
            "90-web.conf",
            "fail",
            "MemoryMax=2G of ./web.service.d/90-web.conf wins over MemoryMax=64M of the config where",
        ),
    ],
)
def test_a_drop_in_that_is_read_later_takes_the_limit_away(
    tmp_path: Path, drop_in: str, status: str, words: str
) -> None:
    (tmp_path / "web.service").write_text("[Service]\nExecStart=/web\nMemoryMax=1G\n")
    (tmp_path / "web.service.d").mkdir()
    if drop_in:
        (tmp_path / "web.service.d" / drop_in).write_text("[Service]\nMemoryMax=2G\n")
    text = "[services.web]\nunit = './web.service'\nMemoryMax = '64M'\n"
    (found,) = own_unit_findings(config_of(text, folder=str(tmp_path)).services)
    assert (found.code, found.status.value) == ("CGP501", status)
    assert found.message.startswith(words)
    # Equal values do not matter.
    (tmp_path / "web.service").write_text("[Service]\nExecStart=/web\n")
    (tmp_path / "web.service.d" / "90-web.conf").write_text("[Service]\nMemoryMax=64M\n")
    assert list(own_unit_findings(config_of(text, folder=str(tmp_path)).services)) == []


@pytest.mark.parametrize("installed", [False, True])
def test_what_packages_expect_in_run_is_created_for_their_units_alone(installed: bool) -> None:
    source = UnitSource(
        name="a.service", files=(UnitText(path="/a", text="[Service]\nExecStart=/a\n"),), installed=installed
    )
    called: list[tuple[str, ...]] = []

    class Programs:
        def run(self, argv: tuple[str, ...], *, timeout: float) -> "Reading[Completed]":
            called.append(argv)
            return Missing(source=argv[0], why=Why.ABSENT)

    services = [replace(item, source=source) for item in _config("").services]
    create_files(_door(Programs()), services)  # type: ignore[arg-type]
    assert [argv[0] for argv in called] == (["systemd-tmpfiles"] if installed else [])
