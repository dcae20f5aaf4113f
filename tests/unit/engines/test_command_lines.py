"""Command lines for systemd as data: nothing in a config can become an option or be expanded."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cgroup_preflight.core.quantities import parse_span
from cgroup_preflight.engines import command_lines
from cgroup_preflight.engines.base import Launch
from cgroup_preflight.engines.unit_file import unit_file
from cgroup_preflight.plan.unit_syntax import setting_pairs
from tests.unit.core.making import settings_of

#: Every option that may stand before `--`; systemd-run(1).
ALLOWED = {
    "--quiet",
    "--no-block",
    "--no-ask-password",
    "--unit",
    "--slice",
    "--description",
    "--service-type",
    "--working-directory",
    "--property",
    "--setenv",
    "--uid",
    "--gid",
    "--expand-environment",
}
OLD, NEW = 252, 254


def launch(**changes):
    """A launch with hostile or plain parts."""
    values = {
        "unit": "cgpf00-web.service",
        "slice": "cgpf00-api.slice",
        "description": "shop web",
        "command": ("/src/dist/web", "--port=80"),
        "settings": setting_pairs(settings_of(MemoryMax="64M", CPUQuota="50%")),
        "folder": "/src",
    }
    return Launch(**{**values, **changes})


def words(systemd=NEW, **changes):
    """Options before `--`, and the command after it."""
    line = command_lines.systemd_run(launch(**changes), sleep="/bin/sleep", systemd=systemd)
    end = line.index("--")
    return line[:end], line[end + 1 :]


def properties(options):
    """The `--property=` options as pairs."""
    return [tuple(word.removeprefix("--property=").split("=", 1)) for word in options if word.startswith("--property=")]


def expanded(word):
    """What systemd.service(5) makes of an argument: `$$` is a dollar, `$NAME` and `${NAME}` are replaced."""
    return re.sub(r"\$\$|\$\{[^}]*\}|\$[A-Za-z_][A-Za-z0-9_]*", lambda match: "$" if match[0] == "$$" else "", word)


def test_the_whole_line():
    options, command = words()
    assert command == ("/src/dist/web", "--port=80")
    for word in (
        "--unit=cgpf00-web.service",
        "--slice=cgpf00-api.slice",
        "--service-type=exec",
        "--working-directory=/src",
        "--no-ask-password",
        "--description=shop web",
    ):
        assert options.count(word) == 1
    assert "--scope" not in options
    assert "--wait" not in options, "it exits 0 for a killed program"
    assert not [word for word in options if word.startswith(("--uid", "--setenv"))]


def test_no_setting_is_spelled_a_second_time():
    """The drop-in has them: systemd-run makes a percentage a fraction of 2^32, and refuses TasksMax=100%."""
    settings = setting_pairs(settings_of(MemoryMax="75%", TasksMax="100%", CPUWeight="80"))
    assert words(settings=settings) == words(settings=())


def test_each_unit_is_held_before_and_after():
    found = dict(properties(words()[0]))
    assert re.fullmatch(r"-/bin/sleep [0-9.]+", found["ExecStartPre"])
    assert re.fullmatch(r"-/bin/sleep [0-9.]+", found["ExecStopPost"])


@given(st.floats(0.1, 3600), st.floats(0.1, 3600), st.floats(30, 8000))
def test_every_start_has_a_time_out_that_systemd_can_read(start, stop, runtime):
    found = dict(properties(words(start_timeout=start, stop_timeout=stop, runtime_max=runtime)[0]))
    # The gate waits for other services: that must not count.
    assert abs(parse_span(found["TimeoutStartSec"]) / 1e6 - start - 60) <= (start + 60) / 1e4
    assert parse_span(found["TimeoutStopSec"]) / 1e6 >= stop * 0.9999
    assert abs(parse_span(found["RuntimeMaxSec"]) / 1e6 - runtime) <= runtime / 1e4


@pytest.mark.parametrize("systemd", [240, 249, 252, 253])
def test_dollars_are_doubled_before_254(systemd):
    options, command = words(systemd, command=("/src/a", "$HOME", "${X}", "a$$b", "$"))
    assert command == ("/src/a", "$$HOME", "$${X}", "a$$$$b", "$$")
    assert not [word for word in options if word.startswith("--expand-environment")]


@pytest.mark.parametrize("systemd", [254, 255, 259])
def test_no_expansion_from_254(systemd):
    options, command = words(systemd, command=("/src/a", "$HOME", "a$$b"))
    assert "--expand-environment=no" in options
    assert command == ("/src/a", "$HOME", "a$$b")


def test_the_program_is_looked_up_as_it_is():
    """systemd-run 252: "Failed to find executable /opt/a$$b/x"."""
    for systemd in (OLD, NEW):
        assert words(systemd, command=("/opt/a$b/x", "$y"))[1][0] == "/opt/a$b/x"


HOSTILE = st.one_of(
    st.sampled_from(
        [
            "--",
            "-p",
            "--scope",
            "--user",
            "--property=MemoryMax=infinity",
            "-",
            "--uid=0",
            "$(id)",
            "`id`",
            "%n",
            "%%",
            "; reboot",
            "",
            " ",
            "--machine=x",
            "-pExecStartPre=/bin/sh",
            "\n--scope",
            "a\nb",
            "${LD_PRELOAD}",
            "$$",
            "\u202e",
        ]
    ),
    st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=12),
)


@given(
    st.lists(HOSTILE, max_size=5),
    st.dictionaries(st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,8}", fullmatch=True), HOSTILE, max_size=3),
    HOSTILE,
    st.sampled_from([OLD, NEW]),
)
def test_nothing_of_a_config_becomes_an_option_or_is_expanded(args, env, folder, systemd):
    options, command = words(
        systemd,
        command=("/src/web", *args),
        env=tuple(env.items()),
        folder="/" + folder,
        description=folder,
        output="/tmp/" + folder,
    )
    assert all(word.startswith("--") and word.split("=", 1)[0] in ALLOWED for word in options)
    assert [word for word in options if word.startswith("--setenv=")] == [
        f"--setenv={name}={value}" for name, value in env.items()
    ]
    names = [name for name, _ in properties(options)]
    assert set(names) == {
        "ExecStartPre",
        "ExecStopPost",
        "TimeoutStartSec",
        "TimeoutStopSec",
        "RuntimeMaxSec",
        "LogRateLimitIntervalSec",
        "StandardOutput",
        "StandardError",
        "ExecStop",
    }
    program, *rest = command
    assert program == "/src/web"
    assert [word if systemd == NEW else expanded(word) for word in rest] == args


def test_as_another_user():
    assert {"--uid=1000", "--gid=1000"} <= set(words(uid=1000)[0])
    assert {"--uid=1000", "--gid=100"} <= set(words(uid=1000, gid=100)[0])
    assert {"--uid=0", "--gid=0"} <= set(words(uid=0)[0])


def test_output_to_a_file():
    found = dict(properties(words(output="/tmp/x/web")[0]))
    assert found["StandardOutput"] == found["StandardError"] == "append:/tmp/x/web"
    assert "StandardOutput" not in dict(properties(words()[0]))


def test_units_are_never_options():
    for line in (
        command_lines.show(["a.service"]),
        command_lines.open_gates(["a.service"]),
        command_lines.kill_all(["a.service", "b.service"]),
    ):
        assert line[line.index("--") + 1 :] in (("a.service",), ("a.service", "b.service"))
        assert all(word.startswith("--") for word in line[1 : line.index("--")])


def test_what_is_asked_of_systemd_is_what_is_judged():
    assert {"Id", "Result", "ExecMainCode", "ExecMainStatus", "ControlGroup", "MainPID", "InvocationID"} <= set(
        command_lines.SHOW_PROPERTIES
    )
    assert "--property=Id,Result" in command_lines.show(["x"], ["Id", "Result"])


@pytest.mark.parametrize(("settings", "protected"), [((), True), ((("Delegate", "yes"),), False)])
def test_a_service_whose_cgroup_files_are_its_own_can_write_to_them(settings, protected):
    line = command_lines.systemd_run(launch(settings=settings), sleep="/bin/sleep", systemd=NEW, protect=True)
    assert ("--property=ProtectControlGroups=yes" in line) is protected
    assert "--property=ProtectControlGroups=yes" not in words(settings=settings)[0]


def test_the_working_directory_of_the_config_wins():
    settings = (("WorkingDirectory", "/var/lib/shop"),)
    plain = unit_file(launch(), (), ()).content
    own = unit_file(launch(settings=settings), settings, ()).content
    assert [line for line in plain.splitlines() if line.startswith("Working")] == ["WorkingDirectory=/src"]
    assert [line for line in own.splitlines() if line.startswith("Working")] == ["WorkingDirectory=/var/lib/shop"]
