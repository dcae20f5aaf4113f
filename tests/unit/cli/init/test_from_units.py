"""`init --from-units` and `init --installed`."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cgroup_preflight.cli import init
from cgroup_preflight.cli.init.from_units import loadable, write_units
from cgroup_preflight.cli.init.unit_files import FoundSlice, FoundUnit, FoundUnits, from_host, from_paths
from cgroup_preflight.config import load
from cgroup_preflight.config.model import Config, ReadyKind, Service
from cgroup_preflight.config.unit_source import UnitSource, UnitText
from cgroup_preflight.core.errors import ConfigError, UsageError
from cgroup_preflight.core.report import Remedy
from tests.unit.golang.binaries import Part, elf

API = """\
[Service]
Type=notify
ExecStart=/usr/bin/api --listen=:8080
Slice=shop-api.slice
MemoryLimit=2G
CPUShares=512
CPUQuota=200.000%
MemoryHigh=50%
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def put(folder: Path, **files: str) -> None:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def imported(*words: str) -> tuple[Config, str]:
    assert init.main(["--force", *words]) == 0
    path = Path("cgroup-preflight.toml")
    return load.load(path.resolve()), path.read_text("utf-8")


def limits(of: Service) -> dict[str, str]:
    return {item.property: item.text for item in of.settings}


def test_a_folder_of_units(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    put(here, **{
        "deploy/api.service": API, "deploy/api.service.d/10.conf": "[Service]\nTasksMax=64\n",
        "deploy/shop-api.slice": "[Slice]\nMemoryMax=4G\nDelegate=yes\n", "deploy/shop.slice": "[Slice]\nCPUWeight=70\n",
        "deploy/notes.txt": "no unit", ".git/old.service": API,
    })  # fmt: skip
    config, text = imported("--from-units", "deploy")
    (service,) = config.services
    assert (service.name, service.unit, service.slice, service.binary) == ("api", "deploy/api.service", "shop-api", "")
    assert limits(service) == {"MemoryHigh": "50%", "MemoryMax": "2G", "CPUWeight": "50", "TasksMax": "64"}
    assert {item.name: [part.text for part in item.settings] for item in config.slices} == {
        "shop": ["70"], "shop-api": ["4G"],
    }  # fmt: skip
    assert "# not taken over: CPUQuota=200.000%" in text
    assert "# not taken over: Delegate=yes" in text
    assert "MemoryLimit is the old name of MemoryMax" in text
    assert '# ready = "tcp://127.0.0.1:8080"' in text
    assert '# binary = "dist/PROGRAM"' in text
    said = capsys.readouterr()
    assert said.out == ""
    assert "2 lines with the reason of what was not taken over" in said.err
    assert "cgroup-preflight validate" in said.err


def test_a_port_that_no_option_of_a_listener_names_is_not_suggested(here: Path) -> None:
    put(here, **{"a.service": "[Service]\nExecStart=/a --retries 8080 --upstream=:9090 8081\n"})
    assert "tcp://" not in imported("--from-units", "a.service")[1]


def test_templates_get_an_instance(here: Path) -> None:
    put(here, **{
        "w@.service": "[Service]\nExecStart=/w %i\n",
        "v@.service": "[Service]\nExecStart=/v %i\n[Install]\nDefaultInstance=blue\n",
    })  # fmt: skip
    config, _ = imported("--from-units", ".")
    assert [(item.name, item.unit, item.instance) for item in config.services] == [
        ("v-blue", "./v@.service", "blue"), ("w-example", "./w@.service", "example"),
    ]  # fmt: skip


def test_units_are_named_relative_to_the_config(here: Path) -> None:
    put(here, **{"deploy/a.service": "[Service]\nExecStart=/a\n"})
    assert init.main(["--output", "deploy/x.toml", "--from-units", "deploy/a.service"]) == 0
    assert load.load(here / "deploy/x.toml").services[0].unit == "./a.service"


def test_a_unit_outside_of_the_project_is_no_unit_of_it(here: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    other = tmp_path_factory.mktemp("other")
    put(other, **{
        "a.service": "[Service]\nType=notify\nUser=shop\nExecStart=-/usr/bin/a --port 81 -v\nMemoryMax=64M\n",
        "a.service.d/x.conf": "[Service]\nMemoryMax=96M\n",
    })  # fmt: skip
    config, text = imported("--from-units", str(other / "a.service"))
    (service,) = config.services
    assert (service.unit, service.binary, service.smoke.args) == ("", "/usr/bin/a", ("--port", "81", "-v"))
    assert service.smoke.ready.kind is ReadyKind.NOTIFY
    assert limits(service) == {"MemoryMax": "96M", "Type": "notify", "User": "shop"}
    assert f"copy {other / 'a.service'} into the project" in text
    assert not (here / "deploy").exists()


@pytest.mark.parametrize("command", ["/a $OPTIONS", "/a 'x y'", "/a \\x20", "/a %h", '"/a b" c'])
def test_arguments_that_systemd_would_change_are_not_taken_over(
    here: Path, tmp_path_factory: pytest.TempPathFactory, command: str
) -> None:
    other = tmp_path_factory.mktemp("other")
    put(other, **{"a.service": f"[Service]\nExecStart={command}\n"})
    config, text = imported("--from-units", str(other))
    assert config.services[0].smoke.args == ()
    assert "# args: take them over from ExecStart=" in text


@pytest.mark.parametrize(("slice_unit", "declared"), [
    ("app.slice", ["app"]), ("system.slice", []), ("user-1000.slice", []), (r"a\x2db.slice", []), ("app", []),
])  # fmt: skip
def test_the_slice_of_a_service(here: Path, slice_unit: str, declared: list[str]) -> None:
    put(here, **{"a.service": f"[Service]\nExecStart=/a\nSlice={slice_unit}\n"})
    config, text = imported("--from-units", "a.service")
    assert [item.name for item in config.slices] == declared
    assert config.services[0].slice == (declared[0] if declared else None)
    assert ("not taken over: Slice=" in text) is not bool(declared)
    assert ("no file app.slice was found" in text) is bool(declared)


def test_limits_that_the_config_refuses_become_comments(here: Path) -> None:
    put(here, **{
        "a.service": "[Service]\nExecStart=/a\nMemoryMax=1M\nTasksMax=20\n",
        "b.service": "[Service]\nExecStart=/b\nMemoryLow=2G\nMemoryMax=1G\n",
        "c.service": "[Service]\n", "d.service": "[Unit]\nDescription=nothing\n",
    })  # fmt: skip
    config, text = imported("--from-units", ".")
    assert [(item.name, limits(item)) for item in config.services] == [
        ("a", {"TasksMax": "20"}),
        ("b", {"MemoryMax": "1G"}),
    ]
    assert '# MemoryMax = "1M"' in text
    assert "# [services.c]" in text
    assert "# [services.d.smoke]" in text


def test_the_built_program_takes_the_place_of_the_installed_one(here: Path) -> None:
    put(
        here,
        **{"a.service": "[Service]\nExecStart=/usr/bin/api\n", "b.service": "[Service]\nExecStart=/usr/bin/other\n"},
    )
    (here / "dist").mkdir()
    (here / "dist/api").write_bytes(elf(segments=[Part(data=b"\xc3", flags=5)]))
    (here / "dist/api").chmod(0o755)
    config, _ = imported("--from-units", "a.service", "b.service")
    assert [item.binary for item in config.services] == ["dist/api", ""]


def test_two_units_with_one_name(here: Path) -> None:
    put(here, **{"x/a.service": "[Service]\nExecStart=/a\n", "y/a.service": "[Service]\nExecStart=/a\n"})
    assert [item.name for item in imported("--from-units", "x", "y")[0].services] == ["a", "a-2"]


@pytest.mark.parametrize(("words", "message"), [
    (["--from-units", "absent"], "no such file"), (["--from-units", "a.txt"], "not a .service"),
    (["--from-units", "empty"], "no .service or .slice file"), (["--from-units", "binary.service"], "no unit file"),
    (["--installed", "no-such-unit-anywhere"], "no unit no-such-unit-anywhere.service is installed"),
    (["--installed", "../etc/passwd"], "not the name of a unit"),
])  # fmt: skip
def test_what_cannot_be_read(here: Path, words: list[str], message: str) -> None:
    put(here, **{"a.txt": "", "empty/x": "", "binary.service": "\0"})
    with pytest.raises(UsageError, match=message):
        init.main(words)
    assert not (here / "cgroup-preflight.toml").exists()


def test_a_pipe_is_no_unit_file(here: Path) -> None:
    os.mkfifo(here / "a.service")
    with pytest.raises(UsageError, match="cannot read"):
        init.main(["--from-units", "a.service"])


def test_units_of_a_host(tmp_path: Path) -> None:
    etc, lib = tmp_path / "etc", tmp_path / "lib"
    put(lib, **{
        "a.service": "[Service]\nExecStart=/lib\nSlice=app.slice\n", "a.service.d/1.conf": "[Service]\nTasksMax=1\n",
        "a.service.d/2.conf": "[Service]\nTasksMax=2\n", "w@.service": "[Service]\nExecStart=/w %i\n",
        "w@.service.d/1.conf": "[Service]\nTasksMax=7\n", "app.slice.d/1.conf": "[Slice]\nMemoryMax=1G\n",
    })  # fmt: skip
    put(
        etc,
        **{
            "a.service": "[Service]\nExecStart=/etc\nSlice=app.slice\n",
            "a.service.d/2.conf": "[Service]\nTasksMax=3\n",
        },
    )
    (etc / "masked.service").symlink_to("/dev/null")
    path = [str(etc), str(lib), str(tmp_path / "absent")]
    found = from_host(["a", "w@x.service"], path)
    first, second = (item.source for item in found.services)
    assert (first.program, first.last("TasksMax")) == ("/etc", "3")
    assert (second.name, second.values("ExecStart"), second.last("TasksMax")) == ("w@x.service", ("/w x",), "7")
    assert [(item.name, len(item.files)) for item in found.slices] == [("app", 1)]
    assert from_host(["app.slice"], path).slices == found.slices
    with pytest.raises(UsageError, match="is masked"):
        from_host(["masked"], path)


def test_the_number_of_units_is_bounded(here: Path) -> None:
    put(here, **{f"u{number}.service": "[Service]\n" for number in range(101)})
    with pytest.raises(UsageError, match="more than 100"):
        from_paths([str(here)], str(here))


def test_an_error_that_no_line_explains_is_raised() -> None:
    def never(_: str) -> None:
        raise ConfigError("no", where="x", remedy=Remedy(title="none"), findings=())

    with pytest.raises(ConfigError):
        loadable("a = 1\n", never)


_texts = st.text(max_size=40) | st.sampled_from(["/bin/a", "app.slice", "1G", "a@b", "\x1b[31m", '"', "x" * 5000])
_lines = st.lists(st.tuples(
    st.sampled_from(["ExecStart", "Slice", "MemoryMax", "MemoryLow", "Type", "CPUShares", "User", "x\ny"]), _texts
)).map(lambda pairs: "[Service]\n" + "".join(f"{key}={value}\n" for key, value in pairs))  # fmt: skip


@given(_lines, st.text(min_size=1, max_size=20), st.booleans())
def test_whatever_the_units_say_the_file_loads(text: str, name: str, inside: bool) -> None:
    source = UnitSource(name=f"{name}.service", files=(UnitText(path=f"/x/{name}", text=text),))
    unit = FoundUnit(path=f"/x/{name}", unit="deploy/a.service" if inside else "", instance="", source=source)
    part = FoundSlice(name=name, files=(UnitText(path=name, text=text.replace("[Service]", "[Slice]")),))
    found = FoundUnits(services=(unit,), slices=(part,))
    written = write_units("p", found, {}, lambda text: load.parse(text.encode(), shown="x", folder="/nowhere"))
    load.parse(written.encode(), shown="x", folder="/nowhere")
    assert not {char for char in written if ord(char) < 32 and char != "\n"}


def test_limits_of_several_devices_are_a_list_and_no_key_is_of_another_section(here: Path) -> None:
    put(here, **{
        "a.service": "[Service]\nExecStart=/usr/bin/a\nSlice=s.slice\nIOReadIOPSMax=/dev/sda 9\nIOReadIOPSMax=/dev/sdb 8\n",
        "s.slice": "[Slice]\nOOMPolicy=kill\nTasksMax=9\n",
    })  # fmt: skip
    config, _ = imported("--from-units", ".")
    (setting,) = config.services[0].settings
    assert (setting.property, setting.value) == ("IOReadIOPSMax", ("/dev/sda 9", "/dev/sdb 8"))
    assert [item.property for item in config.slices[0].settings] == ["TasksMax"]


def test_an_installed_unit_is_named_by_its_name(here: Path) -> None:
    """With `from_host` on a folder of the test: what a host has installed differs."""
    put(here, **{
        "units/redis-server.service": "[Service]\nExecStart=/usr/bin/redis-server --port 6379\nType=notify\nMemoryMax=64M\n",
        "units/w@.service": "[Service]\nExecStart=/w %i\n", "units/off.service": "",
    })  # fmt: skip
    found = from_host(["redis-server", "w@.service", "w@blue.service"], [str(here / "units")])
    written = write_units(
        "p",
        found,
        {"redis-server": "dist/redis-server"},
        lambda text: load.parse(text.encode(), shown="x", folder=str(here)),
    )
    services = load.parse(written.encode(), shown="x", folder=str(here)).services
    assert [(item.unit, item.instance, item.binary) for item in services] == [
        ("redis-server.service", "", ""), ("w@blue.service", "", ""), ("w@.service", "example", ""),
    ]  # fmt: skip
    assert limits(services[0]) == {"MemoryMax": "64M"}
    with pytest.raises(UsageError, match="is masked"):
        from_host(["off"], [str(here / "units")])
