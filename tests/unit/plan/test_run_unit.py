"""The copy of a unit of the project for a run."""

import os
from pathlib import Path

import pytest

from cgroup_preflight.config.load import load
from cgroup_preflight.config.model import Config, ReadyKind
from cgroup_preflight.config.units import read_unit
from cgroup_preflight.core.errors import ConfigError, UsageError
from cgroup_preflight.core.quantities import Permyriad, Size
from cgroup_preflight.core.unit_text import parse_unit
from cgroup_preflight.engines.base import Launch
from cgroup_preflight.engines.command_lines import own_unit_lines
from cgroup_preflight.plan.build import build_plan, scoped
from cgroup_preflight.plan.expect import HostNumbers
from cgroup_preflight.plan.own_unit import own_limits
from cgroup_preflight.plan.run_unit import RunUnit, host_conflicts, run_unit, users
from cgroup_preflight.plan.safe_sizes import tiny_findings
from cgroup_preflight.plan.unitfile import drop_in_files, run_files

_UNIT = """\
[Unit]
Description=API %n
ConditionPathExists=/etc
Requires=postgresql.service
Conflicts=sshd.service
OnFailure=page@%n.service
[Service]
Type=notify
User=shop
ExecStartPre=/bin/one
ExecStartPre=-/bin/two %N
ExecStart=@-"/usr/bin/user-api" name --config /etc/%p.toml $WORD
ExecStop=/bin/stop
ExecStopPost=/bin/clean
Slice=other.slice
Restart=always
StateDirectory=%N
MemoryMax=1G
TasksMax=nonsense
[Install]
WantedBy=multi-user.target
"""
_CONFIG = """
[project]
name = "shop"
[slices.api]
MemoryMax = "2G"
[services.api]
unit = "deploy/user-api.service"
slice = "api"
CPUQuota = "50%"
"""


def _write(folder: Path, unit: str = _UNIT, config: str = _CONFIG, name: str = "user-api.service") -> Config:
    (folder / "deploy").mkdir(exist_ok=True)
    (folder / "deploy" / name).write_text(unit)
    (folder / "c.toml").write_text(config)
    return load(folder / "c.toml")


def test_the_copy_has_the_service_and_nothing_that_concerns_other_units(tmp_path: Path) -> None:
    config = _write(tmp_path)
    (service,) = scoped(build_plan(config), "cgpf0").services
    assert (service.unit, service.slices) == ("cgpf0-user-api.service", ("cgpf0.slice", "cgpf0-api.slice"))
    assert service.run_unit is not None
    keys = [(item.section, item.key) for item in parse_unit(service.run_unit.text)]
    assert keys == [
        ("Unit", "Description"), ("Unit", "ConditionPathExists"), ("Service", "Type"), ("Service", "User"),
        ("Service", "ExecStart"), ("Service", "StateDirectory"), ("Service", "MemoryMax"), ("Service", "TasksMax"),
    ]  # fmt: skip
    assert "Description=API user-api.service" in service.run_unit.text
    assert "StateDirectory=user-api" in service.run_unit.text, "not the name of the run"
    assert service.run_unit.before == ("/bin/one", "-/bin/two user-api")


def test_the_gates_are_around_its_own_commands(tmp_path: Path) -> None:
    (service,) = scoped(build_plan(_write(tmp_path)), "cgpf0").services
    own = service.run_unit
    assert own is not None
    launch = Launch(unit=service.unit, slice="x.slice", description="", command=(), settings=(), own=own, uid=7,
                    hold_before=60.0, hold_after=60.0)  # fmt: skip
    lines = own_unit_lines(launch, own, sleep="/bin/sleep", systemd=252, protect=True)
    commands = [line for line in lines if line.startswith("Exec")]
    assert commands[:4] == [
        "ExecStartPre=",
        "ExecStartPre=-+/bin/sleep 60",
        "ExecStartPre=/bin/one",
        "ExecStartPre=-/bin/two user-api",
    ]
    assert commands[4:7] == ["ExecStop=", commands[5], "ExecStop=/bin/stop"]
    assert commands[7:] == ["ExecStopPost=", "ExecStopPost=/bin/clean", "ExecStopPost=-+/bin/sleep 60"]
    assert {"Restart=no", "RemainAfterExit=no", "ProtectControlGroups=yes"} <= set(lines)
    assert "User=7" not in lines, "the unit says who"


def test_the_program_of_the_project_takes_the_place_of_the_path(tmp_path: Path) -> None:
    source = _write(tmp_path).services[0].source
    assert source is not None
    assert source.program == "/usr/bin/user-api"
    for program, words in (("", '@-"/usr/bin/user-api" name'), ("/p/dist/x", "@-/p/dist/x name")):
        text = run_unit(source, "r.service", "r.slice", program=program).text
        assert f"ExecStart={words} --config /etc/user-api.toml $WORD" in text


@pytest.mark.parametrize(
    ("text", "value"),
    [
        # As `systemd-analyze verify` of systemd 252 takes them, or says that it ignores them.
        ("MemoryMax=+1", Size(1)), ("MemoryMax=01", Size(1)), ("MemoryMax=1K +01", Size(1025)), ("MemoryMax=1.05K", Size(1075)),
        ("MemoryMax=1‱", Permyriad(1)), ("MemoryMax=4.5‰", Permyriad(45)), ("TasksMax=1‰", Permyriad(10)),
        ("MemoryMax=7\nMemoryMax=junk", Size(7)), ("MemoryMax=7\nMemoryMax=0", Size(7)), ("MemoryMax=7\nMemoryMax=", None),
        ("MemoryMax=junk", None), ("MemoryMax=4Ki", None), ("MemoryMax=-1", None), ("CPUWeight=010", None), ("TasksMax=010", None),
        ("MemoryMax=010%", None),
    ],
)  # fmt: skip
def test_its_own_limits_are_read_in_each_spelling_that_systemd_takes(
    tmp_path: Path, text: str, value: object
) -> None:  # fmt: skip
    """Else a limit would be in force that no check has seen, such as one that is too small to be safe."""
    plan = build_plan(_write(tmp_path, f"[Service]\nExecStart=/x\n{text}\n"))
    assert [item.value for item in plan.services[0].unit_settings] == ([] if value is None else [value])
    if isinstance(value, Size):
        host = HostNumbers(page_size=4096, memory_bytes=0, tasks_max=0)
        assert [item.code for item in tiny_findings(plan.every_limit, host, tiny=False)] == ["CGP208"]


def test_its_own_limits_stay_next_to_those_of_the_config(tmp_path: Path) -> None:
    plan = build_plan(_write(tmp_path))
    (service,) = plan.services
    assert [(item.property, item.text) for item in service.settings] == [("CPUQuota", "50%"), ("MemoryMax", "1G")]
    assert [item.property for item in service.own_settings] == ["CPUQuota"]
    assert service.unit_settings[0].location.file == "deploy/user-api.service"
    (drop_in,) = drop_in_files(plan)
    assert drop_in.path.startswith("user-api.service.d/"), "the name of the unit, not that of the service"
    assert "MemoryMax" not in drop_in.content


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("Type=notify\nExecStart=/x", ReadyKind.NOTIFY), ("Type=forking\nExecStart=/x", ReadyKind.NOTIFY),
        ("BusName=a.b\nExecStart=/x", ReadyKind.NOTIFY), ("Type=oneshot\nExecStart=/x", ReadyKind.EXIT),
        ("ExecStop=/x", ReadyKind.EXIT), ("ExecStart=/x", ReadyKind.STARTED),
    ],
)  # fmt: skip
def test_readiness_follows_the_type(tmp_path: Path, text: str, kind: ReadyKind) -> None:
    plan = build_plan(_write(tmp_path, f"[Service]\n{text}\n"))
    assert plan.services[0].smoke.ready.kind is kind
    asked = _CONFIG + '[services.api.smoke]\nready = "log:up"\n'
    assert build_plan(_write(tmp_path, f"[Service]\n{text}\n", asked)).services[0].smoke.ready.kind is ReadyKind.LOG


def test_a_slice_of_the_unit_counts_where_the_config_declares_it(tmp_path: Path) -> None:
    config = _CONFIG.replace('slice = "api"\n', "")
    unit = "[Service]\nExecStart=/x\nSlice=api.slice\n"
    assert build_plan(_write(tmp_path, unit, config)).services[0].slices == ("api.slice",)
    assert build_plan(_write(tmp_path, _UNIT, config)).services[0].slices == ()


def test_a_template_with_its_drop_ins_and_a_socket(tmp_path: Path) -> None:
    config = _CONFIG.replace("user-api.service", "api@.service") + 'instance = "blue"\n'
    for name, text in (
        ("api@.service.d/10-x.conf", "a"),
        ("api@.service.d/20-x.conf", "b"),
        ("api@blue.service.d/10-x.conf", "c"),
    ):
        path = tmp_path / "deploy" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"[Service]\nEnvironment=X={text}\n")
    (tmp_path / "deploy/api@.socket").write_text(
        "[Socket]\nListenStream=80\nAccept=no\nService=x.service\n[Install]\nA=b\n"
    )
    plan = scoped(build_plan(_write(tmp_path, "[Service]\nExecStart=/x %i\n", config, "api@.service")), "cgpf0")
    (service,) = plan.services
    assert service.unit == "cgpf0-api@blue.service"
    assert service.run_unit is not None
    assert (
        service.run_unit.text
        == "[Unit]\n[Service]\nExecStart=/x blue\nEnvironment=X=c\nEnvironment=X=b\nSockets=cgpf0-api@blue.socket\n"
    )
    files = {item.path: item.content for item in run_files(plan)}
    assert (
        files["cgpf0-api@blue.socket"]
        == "[Socket]\nListenStream=80\nService=cgpf0-api@blue.service\nSlice=cgpf0-api.slice\n"
    )


def test_what_a_host_may_have_already_and_the_users(tmp_path: Path) -> None:
    source = _write(tmp_path).services[0].source
    assert source is not None
    assert host_conflicts(source) == ("StateDirectory=user-api",)
    assert users(source) == (("shop",), ())
    unit = "[Service]\nExecStart=/x\nUser=a b\nGroup=www\nSupplementaryGroups=adm 44 www\nPIDFile=/run/x.pid\n"
    source = _write(tmp_path, unit).services[0].source
    assert source is not None
    assert host_conflicts(source) == ("PIDFile=/run/x.pid",)
    assert users(source) == ((), ("www", "adm"))
    source = _write(tmp_path, "[Service]\nExecStart=/x\nBusName=org.shop.Api\n").services[0].source
    assert source is not None and host_conflicts(source) == ("BusName=org.shop.Api",)
    source = _write(tmp_path, "[Service]\nExecStart=/x\nUser=made\nDynamicUser=yes\n").services[0].source
    assert source is not None and users(source) == ((), ())


@pytest.mark.parametrize("text", ["yes", "Yes", "true", "on", "1", "y", "t"])
def test_what_a_unit_turns_on(tmp_path: Path, text: str) -> None:
    copy, named = _with_switches(tmp_path, text)
    assert copy.has_user and copy.delegates and not named


@pytest.mark.parametrize("text", ["no", "No", "false", "off", "0", "n", "f"])
def test_what_a_unit_turns_off(tmp_path: Path, text: str) -> None:
    copy, named = _with_switches(tmp_path, text)
    assert not copy.has_user and not copy.delegates and named == ("www",)


def _with_switches(folder: Path, text: str) -> tuple[RunUnit, tuple[str, ...]]:
    unit = f"[Service]\nExecStart=/x\nGroup=www\nDynamicUser={text}\nDelegate={text}\n"
    source = _write(folder, unit).services[0].source
    assert source is not None
    return run_unit(source, "run-x.service", "run.slice"), users(source)[1]


@pytest.mark.parametrize(("line", "has"), [
    ("User=shop", True), ("DynamicUser=yes", True), ("DynamicUser=1", True), ("DynamicUser=no", False),
    ("DynamicUser=False", False), ("DynamicUser=", False), ("Group=shop", False),
])  # fmt: skip
def test_a_unit_that_runs_as_another_user(tmp_path: Path, line: str, has: bool) -> None:
    source = _write(tmp_path, f"[Service]\nExecStart=/x\n{line}\n").services[0].source
    assert source is not None
    assert run_unit(source, "a.service", "a.slice").has_user is has


@pytest.mark.parametrize(
    ("unit", "config", "text"),
    [
        (_UNIT, _CONFIG.replace("deploy/user-api", "deploy/none"), "deploy/none.service: cannot read the unit file"),
        ("[Unit]\nDescription=x\n", _CONFIG, "deploy/user-api.service has no section [Service]"),
        ("[Service]\nUser=x\n", _CONFIG, "deploy/user-api.service has no ExecStart="),
        ("[Service]\nExecStart=-\n", _CONFIG, "deploy/user-api.service:2: ExecStart=- names no program"),
        ("[Service]\nType=notfy\nExecStart=/x\n", _CONFIG, "Type=notfy is not a type of service"),
        (_UNIT, _CONFIG.replace("user-api.service", "x@.service"), "is a template and needs an instance"),
        (_UNIT, _CONFIG + 'instance = "a"\n', "only a template"),
        (_UNIT, _CONFIG + '[services.api.smoke]\nargs = ["x"]\n', "the unit has the arguments"),
        (_UNIT, _CONFIG.replace('unit = "deploy/user-api.service"\n', ""), "has neither binary nor unit"),
        (_UNIT, _CONFIG.replace("deploy/", "/etc/"), "is outside the folder of the config"),
        (_UNIT, _CONFIG.replace("user-api.service", "user-api.timer"), "is not the file of a service unit"),
    ],
)
def test_mistakes_are_named_with_their_place(tmp_path: Path, unit: str, config: str, text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        _write(tmp_path, unit, config)
    (finding,) = caught.value.findings
    assert text in finding.message
    assert finding.location is not None


def test_a_unit_file_is_inside_of_the_project(tmp_path: Path) -> None:
    (tmp_path / "out.service").write_text(_UNIT)
    (tmp_path / "project").mkdir()
    (tmp_path / "project/link.service").symlink_to(tmp_path / "out.service")
    for outside in ("link.service", "../out.service", str(tmp_path / "out.service")):
        with pytest.raises(UsageError, match="outside the folder of the config") as caught:
            read_unit(str(tmp_path / "project"), outside, "")
        assert "--allow-outside DIR" in caught.value.remedy.title
        assert read_unit(str(tmp_path / "project"), outside, "", (str(tmp_path),)).files[0].text == _UNIT
    os.mkfifo(tmp_path / "project/fifo.service")
    with pytest.raises(UsageError, match="not a regular file"):
        read_unit(str(tmp_path / "project"), "fifo.service", "")


def test_limits_of_devices_and_policies_of_a_unit_are_its_limits_and_its_user_is_none(tmp_path: Path) -> None:
    lines = ("IOReadIOPSMax=/dev/sda 9", "IOReadIOPSMax=/dev/sdb 8", "OOMPolicy=kill", "User=shop", "Type=notify",
             "StateDirectory=x", "AllowedCPUs=bad", "ConcurrencyHardMax=3")  # fmt: skip
    (tmp_path / "a.service").write_text("\n".join(("[Service]", "ExecStart=/bin/a", *lines, "")))
    found = own_limits(read_unit(str(tmp_path), "a.service", ""))
    assert [(item.property, item.value) for item in found] == [
        ("IOReadIOPSMax", ("/dev/sda 9", "/dev/sdb 8")), ("OOMPolicy", "kill"),
    ]  # fmt: skip
    with open(tmp_path / "a.service", "a") as file:
        file.write("IOReadIOPSMax=\nIOReadIOPSMax=/dev/sdc 7\nOOMPolicy=\n")
    found = own_limits(read_unit(str(tmp_path), "a.service", ""))
    assert [(item.property, item.value) for item in found] == [("IOReadIOPSMax", ("/dev/sdc 7",))]
