"""Units that a machine has installed, in a folder of the test as the root of that machine."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cgroup_preflight.config.installed_units import NotInstalledError, UnitFolders, with_installed
from cgroup_preflight.core.errors import ConfigError, UsageError
from cgroup_preflight.plan.build import build_plan, scoped
from tests.unit.core.making import config_of, mistakes_of

VENDOR, ADMIN = "usr/lib/systemd/system", "etc/systemd/system"
UNIT = "[Service]\nExecStart=/usr/bin/redis-server\n"


def put(root: Path, **files: str) -> UnitFolders:
    """A machine with these files; a text that begins with `->` is a link."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if text.startswith("->"):
            path.symlink_to(text.removeprefix("->"))
        else:
            path.write_text(text)
    if not (root / "lib").exists():
        (root / "lib").symlink_to("usr/lib")
    return UnitFolders(root=str(root))


def test_a_unit_with_the_drop_ins_of_all_its_names(tmp_path: Path) -> None:
    machine = put(tmp_path, **{
        f"{VENDOR}/redis-server.service": UNIT,
        f"{VENDOR}/redis-server.service.d/20.conf": "[Service]\nTasksMax=20\n",
        f"{ADMIN}/redis-server.service.d/20.conf": "[Service]\nTasksMax=30\n",
        f"{VENDOR}/redis-.service.d/10.conf": "[Service]\nNice=1\n",
        f"{VENDOR}/service.d/05.conf": "[Service]\nNice=2\n",
        f"{VENDOR}/redis-server.service.d/notes.txt": "no drop-in",
        f"{ADMIN}/redis-server.service.d/30.conf": "->/dev/null",
        f"{ADMIN}/redis.service": "->/lib/systemd/system/redis-server.service",
        f"{ADMIN}/redis.service.d/40.conf": "[Service]\nMemoryMax=1G\n",
    })  # fmt: skip
    found = machine.service("redis-server.service")
    assert [file.path for file in found.files] == [
        "/usr/lib/systemd/system/redis-server.service", "/usr/lib/systemd/system/service.d/05.conf",
        "/usr/lib/systemd/system/redis-.service.d/10.conf", "/etc/systemd/system/redis-server.service.d/20.conf",
    ]  # fmt: skip
    assert (found.name, found.installed, found.last("TasksMax"), found.last("Nice")) == (
        "redis-server.service",
        True,
        "30",
        "1",
    )
    alias = machine.service("redis.service")
    assert (alias.name, alias.last("MemoryMax")) == ("redis-server.service", "1G")


def test_an_instance_has_the_file_of_its_template(tmp_path: Path) -> None:
    machine = put(tmp_path, **{
        f"{VENDOR}/postgresql@.service": "[Service]\nType=forking\nExecStart=-/usr/bin/pg_ctlcluster %i start\n",
        f"{VENDOR}/pg@.service": "->postgresql@.service",
        f"{ADMIN}/postgresql@15-main.service.d/x.conf": "[Service]\nTasksMax=7\n",
    })  # fmt: skip
    for name, instance in (
        ("postgresql@15-main.service", ""),
        ("postgresql@.service", "15-main"),
        ("pg@15-main.service", ""),
    ):
        found = machine.service(name, instance)
        assert (found.name, found.type, found.program) == (
            "postgresql@15-main.service",
            "forking",
            "/usr/bin/pg_ctlcluster",
        )
        assert found.values("ExecStart") == ("-/usr/bin/pg_ctlcluster 15-main start",)
        assert found.last("TasksMax") == "7"


@pytest.mark.parametrize("content", ["->/dev/null", ""])
def test_a_masked_unit_is_named(tmp_path: Path, content: str) -> None:
    machine = put(tmp_path, **{f"{VENDOR}/a.service": UNIT, f"{ADMIN}/a.service": content})
    with pytest.raises(UsageError, match=r"^/etc/systemd/system/a\.service is masked") as caught:
        machine.service("a.service")
    assert caught.value.remedy.title == "unmask it with: systemctl unmask a.service"


def test_a_unit_that_is_not_installed_has_a_near_name(tmp_path: Path) -> None:
    with pytest.raises(NotInstalledError) as caught:
        put(tmp_path, **{f"{VENDOR}/redis-server.service": UNIT}).service("redis-servr.service")
    assert caught.value.remedy.title.startswith("did you mean redis-server.service? ")
    assert caught.value.names == ("redis-server.service",)
    with pytest.raises(NotInstalledError):
        UnitFolders(root=str(tmp_path / "empty")).service("a.service")


@pytest.mark.parametrize(("names", "socket"), [("Requires=a.socket", True), ("After=a.socket", False), ("", False)])
def test_only_a_socket_that_the_unit_names_is_its_socket(tmp_path: Path, names: str, socket: bool) -> None:
    machine = put(tmp_path, **{
        f"{VENDOR}/a.service": f"[Unit]\n{names}\n{UNIT}", f"{VENDOR}/a.socket": "[Socket]\nListenStream=/run/a\n",
    })  # fmt: skip
    found = machine.service("a.service")
    assert bool(found.socket) is socket
    assert found.needs == ()


def test_links_in_a_circle_end(tmp_path: Path) -> None:
    machine = put(tmp_path, **{f"{ADMIN}/a.service": "->b.service", f"{ADMIN}/b.service": "->a.service"})
    with pytest.raises(UsageError):
        machine.service("a.service")


CONFIG = """
[services.cache]
unit = "redis-server.service"
MemoryMax = "64M"
[services.other]
unit = "no-such.service"
[services.third]
unit = "gone.service"
"""


def test_all_units_that_a_machine_has_not_are_told_at_once(tmp_path: Path) -> None:
    machine = put(tmp_path, **{f"{VENDOR}/redis-server.service": UNIT, f"{ADMIN}/gone.service": "->/dev/null"})
    with pytest.raises(ConfigError) as caught:
        with_installed(config_of(CONFIG), machine)
    assert [(item.code, item.subject) for item in caught.value.findings] == [("CGP217", "other"), ("CGP217", "third")]
    assert [item.location.line for item in caught.value.findings if item.location] == [6, 8]
    found = with_installed(config_of(CONFIG), machine, ("cache",))
    assert found.services[0].source is not None
    assert found.services[1].source is None


def test_the_unit_of_a_machine_is_tried_as_a_copy(tmp_path: Path) -> None:
    """Its name is known before, its text only on the machine that has it; a run never starts the unit itself."""
    config = config_of('[services.cache]\nunit = "redis-server.service"\nMemoryMax = "64M"\n')
    (before,) = build_plan(config).services
    assert (before.unit, before.binary, before.source) == ("redis-server.service", "", None)
    found = with_installed(config, put(tmp_path, **{f"{VENDOR}/redis-server.service": UNIT + "TasksMax=99\n"}))
    (service,) = scoped(build_plan(found), "cgpf1", in_place=True).services
    assert (service.unit, service.binary) == ("cgpf1-redis-server.service", "/usr/bin/redis-server")
    assert [item.property for item in service.unit_settings] == ["TasksMax"]
    assert service.run_unit is not None
    assert "ExecStart=/usr/bin/redis-server\n" in service.run_unit.text


@pytest.mark.parametrize("in_place", [False, True])
def test_a_built_program_takes_the_place_of_an_installed_one(tmp_path: Path, in_place: bool) -> None:
    config = config_of('[services.cache]\nunit = "redis-server.service"\nbinary = "dist/redis"\n')
    found = with_installed(config, put(tmp_path, **{f"{VENDOR}/redis-server.service": UNIT}))
    (service,) = scoped(build_plan(found), "cgpf1", in_place=in_place).services
    assert service.run_unit is not None
    assert "ExecStart=/src/dist/redis\n" in service.run_unit.text


def test_a_file_without_a_slash_is_told_apart(tmp_path: Path) -> None:
    text = '[services.a]\nunit = "{}"\n'
    (tmp_path / "a.service").write_text(UNIT)
    with pytest.raises(ConfigError) as caught:
        config_of(text.format("a.service"), folder=str(tmp_path))
    assert caught.value.findings[0].remedies[0].title == 'write unit = "./a.service" for the file'
    (service,) = config_of(text.format("./a.service"), folder=str(tmp_path)).services
    assert service.source is not None
    assert not service.is_installed
    assert mistakes_of('[services.a]\nunit = "x@.service"\n')[0].code == "CGP207"


_names = st.from_regex(r"[a-z@.-]{1,12}\.service", fullmatch=True)


@given(
    _names,
    st.dictionaries(_names, st.sampled_from([UNIT, "", "->a.service", "->/dev/null", "->../x.service"]), max_size=4),
)
def test_whatever_is_installed_there_is_a_unit_or_a_reason(
    tmp_path_factory: pytest.TempPathFactory, name: str, files: dict[str, str]
) -> None:
    root = tmp_path_factory.mktemp("root")
    machine = put(root, **{os.path.join(VENDOR, key): text for key, text in files.items()})
    try:
        found = machine.service(name)
    except UsageError as error:
        assert error.message
        assert error.remedy.title
    else:
        assert found.installed
        assert found.files
