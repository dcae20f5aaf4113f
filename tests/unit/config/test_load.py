"""Bytes to the frozen config, or every mistake at once, each with its line; never another error."""

import json
import re
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from cgroup_preflight.config import load
from cgroup_preflight.config.keys import SECTIONS
from cgroup_preflight.config.model import Config, ReadyKind
from cgroup_preflight.config.other_keys import instead_of
from cgroup_preflight.config.properties import BY_NAME, PROPERTIES
from cgroup_preflight.core.errors import ConfigError, UsageError
from cgroup_preflight.core.quantities import INFINITY, Permyriad, Size
from cgroup_preflight.core.report import Status
from tests.unit.core.making import config_of, mistakes_of, names

SAMPLE = Path(__file__).parents[3] / "examples" / "shop" / "cgroup-preflight.toml"
WHOLE = """\
[project]
name = "shop"
[require]
controllers = ["memory", "cpu", "pids"]
systemd = ">=249"
kernel = ">=5.15"
[smoke]
engine = "user"
[artifacts]
inject = ["dist/*.tar.gz"]
[slices.api]
MemoryMax = "2G"
CPUWeight = 80
[slices.api-v1]
CPUQuota = "150.5%"
CPUQuotaPeriodSec = "50ms"
AllowedCPUs = "0-3,5"
[services.user-api]
binary = "dist/user-api"
slice = "api-v1"
MemoryMax = "10%"
MemorySwapMax = 0
TasksMax = "infinity"
CPUWeight = "idle"
ManagedOOMMemoryPressure = "kill"
[services.user-api.smoke]
args = ["--port=8082", "$HOME", "%n"]
env = { MODE = "a=b" }
ready = "http://127.0.0.1:8082/healthz"
duration = "1min 30s"
start_timeout = 7
stop_timeout = "100ms"
"""


def _check(data: bytes) -> None:
    """What every outcome of `parse` has to be like."""
    lines = data.count(b"\n") + 1
    try:
        config = load.parse(data, shown="f.toml", folder="/src")
    except ConfigError as error:
        assert error.findings
        assert error.exit_status == 2
        for item in error.findings:
            assert item.status is Status.FAIL
            assert re.fullmatch(r"CGP2\d\d", item.code)
            assert item.location.file == "f.toml"
            assert 1 <= item.location.line <= lines
            assert item.message
            assert len(item.message) < 1500
            assert item.remedies[0].title
        places = [item.location.line for item in error.findings]
        assert places == sorted(places)
    else:
        assert isinstance(config, Config)


@given(st.binary(max_size=200))
@example(b"\xef\xbb\xbf[project]\nname='x'\n")
@example(b"\xff\xfe[\x00")
@example(b"\x00")
@example(b"[project]\r\nname = 'x'\r\n")
@example(b"a = [" + b"[" * 3000)
@example(b"a = " + b"{a = " * 3000)
@example(b"x = " + b"1" * 5000)
@example(b"[project]\nname = 0x" + b"f" * 5000)
@example(b"[slices.a]\nMemoryMax = 0x" + b"f" * 5000)
@example(b"[services.a.smoke]\nduration = -0x" + b"f" * 5000)
@example(b"x = 1e999\ny = nan\nz = 2024-02-30\n")
@example(b'[slices]\n"\\u0000" = 1\n')
def test_any_bytes(data):
    _check(data)


@given(st.integers(0, len(WHOLE)), st.integers(0, 20), st.text(alphabet="=[]{}\"'#\n.,-%\\ \x1b\u202eé0aM", max_size=6))
def test_a_damaged_config(start, length, instead):
    _check((WHOLE[:start] + instead + WHOLE[start + length :]).encode())


_SCALARS = st.one_of(
    st.booleans(),
    st.integers(-(1 << 70), 1 << 70),
    st.floats(allow_nan=False),
    st.text(max_size=8),
    st.sampled_from(
        ["512M", "50%", "infinity", "http://127.0.0.1:1/", "log:(", "exit", "1h", "0-3", "idle", "", "\x1b[2J", "../x"]
    ),
)
_VALUES = st.recursive(
    _SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=4), inner, max_size=3)),
    max_leaves=5,
)
_KNOWN = sorted(
    {key.name for section in SECTIONS.values() for key in section.keys}
    | {name for section in SECTIONS for name in section.split(".")}
)
_KEYS = st.one_of(st.sampled_from(_KNOWN), st.text(max_size=5))


def _toml(value) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_toml_text(key)} = {_toml(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(_toml(item) for item in value) + "]"
    if isinstance(value, bool):
        return str(value).lower()
    return _toml_text(value) if isinstance(value, str) else repr(value)


def _toml_text(text: str) -> str:
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


@given(
    st.dictionaries(
        _KEYS,
        st.one_of(
            _VALUES, st.dictionaries(_KEYS, st.one_of(_VALUES, st.dictionaries(_KEYS, _VALUES, max_size=3)), max_size=4)
        ),
        max_size=5,
    )
)
def test_any_tables(tables):
    """The right keys with the wrong kinds of values, at every level."""
    _check("".join(f"{_toml_text(key)} = {_toml(value)}\n" for key, value in tables.items()).encode("utf-8", "replace"))


def test_the_whole_model():
    config = config_of(WHOLE)
    assert (config.project, config.engine, config.inject, config.path, config.folder) == (
        "shop",
        "user",
        ("dist/*.tar.gz",),
        "c.toml",
        "/src",
    )
    assert config.require.controllers == ("memory", "cpu", "pids")
    assert config.require.systemd == ">=249"
    assert config.require.location.line == 3
    assert [item.name for item in config.slices] == ["api", "api-v1"]
    (service,) = config.services
    assert (service.name, service.binary, service.slice, service.location.line) == (
        "user-api",
        "dist/user-api",
        "api-v1",
        18,
    )
    found = {item.property: (item.text, item.value, item.location.line) for item in service.settings}
    assert found == {
        "MemoryMax": ("10%", Permyriad(1000), 21),
        "MemorySwapMax": ("0", Size(0), 22),
        "TasksMax": ("infinity", INFINITY, 23),
        "CPUWeight": ("idle", "idle", 24),
        "ManagedOOMMemoryPressure": ("kill", "kill", 25),
    }
    smoke = service.smoke
    assert smoke.args == ("--port=8082", "$HOME", "%n")
    assert smoke.env == (("MODE", "a=b"),)
    assert (smoke.ready.kind, smoke.ready.target) == (ReadyKind.HTTP, "http://127.0.0.1:8082/healthz")
    assert (smoke.duration, smoke.start_timeout, smoke.stop_timeout) == (90.0, 7.0, 0.1)
    assert service.ready_location.line == 29


def test_defaults():
    config = config_of("[services.a]\nbinary = 'x'\n")
    assert config.require.controllers == ("memory", "cpu")
    assert config.require.location is None
    assert (config.engine, config.inject, config.slices) == ("auto", (), ())
    (service,) = config.services
    assert service.slice is None
    assert service.smoke.ready.kind is ReadyKind.STARTED
    assert (service.smoke.duration, service.smoke.start_timeout, service.smoke.stop_timeout) == (5.0, 30.0, 10.0)


@given(
    st.sampled_from(["Slice", "Service"]),
    st.sets(st.sampled_from([item.name for item in PROPERTIES]), max_size=5).map(sorted),
    st.randoms(),
)
def test_settings_come_in_the_order_of_the_table(section, chosen, random):
    """Whatever the order in the file, so that generated files are the same bytes."""
    by_name = {item.name: item.example for item in PROPERTIES if section in item.sections}
    chosen = [name for name in chosen if name in by_name]
    random.shuffle(chosen)
    text = ("[slices.a]\n" if section == "Slice" else "[services.a]\nbinary = 'x'\n") + "".join(
        f"{name} = '{by_name[name]}'\n" for name in chosen
    )
    config = config_of(text)
    assert [item.property for item in (config.slices or config.services)[0].settings] == [
        item.name for item in PROPERTIES if item.name in chosen
    ]


def test_numbers_and_blanks_around_text_are_the_same_setting():
    one = config_of("[slices.a]\nMemoryMax = 536870912\nCPUWeight = 80\n").slices[0]
    two = config_of("[slices.a]\nMemoryMax = ' 536870912 '\nCPUWeight = '80'\n").slices[0]
    assert [(item.text, item.value) for item in one.settings] == [(item.text, item.value) for item in two.settings]


@pytest.mark.skipif(not SAMPLE.is_file(), reason="the example lies in the repository only")
def test_the_example_is_in_order():
    assert config_of(SAMPLE.read_text("utf-8")).services


def test_every_mistake_at_once_each_on_its_line():
    text = """\
[project]
nmae = "shop"
[require]
controllers = ["memory", "gpu"]
systemd = "new"
[smoke]
engine = "docker"
[slices.api]
MemoryMax = "512MB"
CPUQuota = "50"
memory_high = "1G"
[slices."a/b"]
[services.a]
slice = "apo"
MemoryMax = 100
[services.b]
binary = "x"
smoke = 3
[services.c]
binary = "y"
[services.c.smoke]
ready = "http://10.0.0.1/"
args = "one two"
"""
    found = [(item.location.line, item.name) for item in mistakes_of(text)]
    assert found == [
        (1, "missing-key"),
        (2, "unknown-key"),
        (4, "bad-value"),
        (5, "bad-value"),
        (7, "bad-value"),
        (9, "bad-value"),
        (10, "bad-value"),
        (11, "unknown-key"),
        (12, "bad-name"),
        (13, "missing-key"),
        (14, "undeclared-slice"),
        (15, "limit-too-small"),
        (18, "wrong-type"),
        (22, "bad-address"),
        (23, "wrong-type"),
    ]


@pytest.mark.parametrize(
    ("text", "nearest"),
    [
        ("[slices.a]\nmemorymax = 1", "MemoryMax"),
        ("[slices.a]\nMemory_Max = 1", "MemoryMax"),
        ("[slices.a]\nCPUquota = 1", "CPUQuota"),
        ("[slices.a]\nTaskMax = 1", "TasksMax"),
        ("[slice.a]\n", "slices"),
        ("[service.a]\n", "services"),
        ("[services.a]\nbinary='x'\nbinaries = 1", "binary"),
        ("[services.a]\nbinary='x'\n[services.a.smoke]\narg = []", "args"),
        ("[services.a]\nbinary='x'\n[services.a.smok]\n", "smoke"),
        ("[requires]\n", "require"),
        ("[slices.a]\nmemory_limit = '1G'", "MemoryMax"),
        ("[slices.a]\nMemoryLimits = '1G'", "MemoryMax"),
        ("[slices.a]\nTasksLimit = 64", "TasksMax"),
        ("[slices.a]\nMemorySwapLimit = 0", "MemorySwapMax"),
        ("[slices.a]\nMemoryMinn = '1G'", "MemoryMin"),
    ],
)
def test_an_unknown_key_names_the_nearest(text, nearest):
    (item,) = mistakes_of(text)
    assert item.name == "unknown-key"
    assert f"did you mean {nearest}?" in item.remedies[0].title
    # A near name is more help than a list of forty.
    assert len(item.remedies[0].title) < 200


@pytest.mark.parametrize("text", ["[slices.a]\nxyzzy = 1", "[services.a]\nbinary='x'\nxyzzy = 1", "[xyzzy]\n"])
def test_an_unknown_key_with_no_near_name_lists_those_that_are_allowed(text):
    (item,) = mistakes_of(text)
    assert item.remedies[0].title.startswith("allowed: ")


@pytest.mark.parametrize(
    ("text", "remedy"),
    [
        ("[slices.a]\nMemoryLimit = '1G'", 'use MemoryMax = "1G", '),
        ("[slices.a]\nMemoryLimit = 2147483648", "use MemoryMax = 2147483648, "),
        ("[slices.a]\nMemoryLimit = 'lots'", "use MemoryMax, the name on cgroup v2"),
        ("[slices.a]\nMemoryLimit = [1]", "use MemoryMax, the name on cgroup v2"),
        ("[slices.a]\nCPUShares = 512", "use CPUWeight = 50, the name on cgroup v2; its scale is another one: 1024"),
        ("[slices.a]\nCPUShares = '1024'", "use CPUWeight = 100, "),
        ("[slices.a]\nCPUShares = 1", "use CPUWeight, the name on cgroup v2; its scale"),
        ("[slices.a]\nCPUShares = true", "use CPUWeight, the name on cgroup v2; its scale"),
        ("[slices.a]\nStartupCPUShares = 2048", "use StartupCPUWeight = 200, "),
        ("[slices.a]\nBlockIOWeight = 500", "use IOWeight = 100, the name on cgroup v2; its scale is another one: 500"),
        ("[slices.a]\nStartupBlockIOWeight = 1000", "use StartupIOWeight = 200, "),
        ("[slices.a]\nBlockIOReadBandwidth = '/dev/sda 5M'", 'use IOReadBandwidthMax = "/dev/sda 5M", '),
        ("[services.a]\nbinary = 'x'\nMemoryLimit = '1G'", 'use MemoryMax = "1G", '),
        ("[slices.a]\nMemoryAccounting = true", "remove it"),
        ("[slices.a]\nUser = 'shop'", "systemd has it in [Service] only"),
        ("[slices.a]\nRequires = 'x.service'", "leave it to the unit files"),
        ("[services.a]\nbinary = 'x'\nConcurrencyHardMax = 3", "systemd has it in [Slice] only"),
        ("[services.a]\nbinary = 'x'\nargs = ['--port=1']", "smoke.args"),
        ("[services.a]\nbinary = 'x'\nready = 'exit'", "smoke.ready"),
        ("[services.a]\nbinary = 'x'\nheadroom_min = '10%'", "policy.headroom_min"),
        ("[services.a]\nbinary = 'x'\nExecStartPre = '/bin/true'", "name that file with `unit`"),
        ("[services.a]\nbinary = 'x'\nRequires = 'b.service'", "name that file with `unit`"),
        ("[services.a]\nbinary = 'x'\nExecStart = '/bin/x'", "use binary"),
        ("[services.a]\nbinary = 'x'\nSlice = 'a.slice'", "use slice"),
        ("[services.a]\nbinary = 'x'\nTasksAccounting = 'yes'", "remove it"),
    ],
)
def test_a_key_that_exists_elsewhere_says_what_to_write(text, remedy):
    (item,) = mistakes_of(text)
    assert item.name == "unknown-key"
    assert remedy in item.remedies[0].title
    assert "allowed: " not in item.remedies[0].title


@given(
    st.sampled_from(["MemoryLimit", "CPUShares", "StartupCPUShares", "BlockIOWeight"]),
    st.text(max_size=80) | st.integers(0, 1 << 65),
)
def test_the_line_in_the_hint_to_an_old_name_is_accepted(old, value):
    hint = instead_of("slices.*", old, value)
    line = re.match(r"use (\w+ = .*), the name on cgroup v2", hint)
    if line:
        name, _, text = line[1].partition(" = ")
        BY_NAME[name].parse(text.strip('"'))
    else:
        assert re.match(r"use \w+, the name on cgroup v2", hint)


@pytest.mark.parametrize("name", ["system", "system.slice", "user.slice", "system-shop.slice", "machine"])
def test_a_slice_of_systemd_is_answered_with_what_works(name):
    """Neither `system` nor [slices.system] would be accepted, so no hint may name them."""
    (item,) = mistakes_of(f"[services.a]\nbinary = 'x'\nslice = '{name}'")
    assert "belongs to systemd" in item.message
    assert "[slices.api]" in item.remedies[0].title
    config_of("[slices.api]\nMemoryMax = '1G'\n[services.a]\nbinary = 'x'\nslice = 'api'")
    config_of("[services.a]\nbinary = 'x'\nMemoryMax = '1G'")


def test_a_slice_with_its_suffix_is_answered_with_its_name():
    (item,) = mistakes_of("[slices.api]\n[services.a]\nbinary = 'x'\nslice = 'api.slice'")
    assert item.remedies[0].title == "use api"


@pytest.mark.parametrize("section", ["slices.a", "services.a"])
@pytest.mark.parametrize(("name", "most", "more"), [
    ("TasksMax", 4194304, 4194305), ("TasksMax", "'4194304'", "'4194305'"), ("TasksMax", "'infinity'", 10**9),
    ("MemoryMax", 9223372036854771711, 9223372036854771712), ("MemoryHigh", "'7E'", "'9223372036854775807'"),
    ("StartupMemoryMax", "'7E'", 9223372036854775807),
])  # fmt: skip
def test_a_value_that_the_kernel_does_not_take_is_a_mistake(section, name, most, more):
    program = "binary = 'x'\n" if section == "services.a" else ""
    config_of(f"[{section}]\n{program}{name} = {most}\n")
    (item,) = mistakes_of(f"[{section}]\n{program}{name} = {more}\n")
    assert (item.code, item.subject) == ("CGP204", f"{section}.{name}")


def test_the_allowed_keys_are_listed_once():
    found = mistakes_of(
        "[slices.a]\nxyzzy = 1\nplugh = 1\n[slices.b]\nxyzzy = 1\n[services.c]\nbinary = 'x'\nplover = 1\n"
    )
    titles = [item.remedies[0].title for item in found]
    assert [title.count(" MemoryMax,") for title in titles] == [1, 0, 0, 1]
    assert titles[1] == titles[2] == f"the allowed keys are listed at line {found[0].location.line}"


@pytest.mark.parametrize(
    ("value", "lines"),
    [
        ("'/etc/a'", ["/etc/a"]),
        ("['/etc/a', ' -/etc/b ']", ["/etc/a", "-/etc/b"]),
    ],
)
def test_a_property_may_have_several_lines(value, lines):
    (service,) = config_of(f"[services.a]\nbinary = 'x'\nEnvironmentFile = {value}\n").services
    (setting,) = service.settings
    assert setting.value == tuple(lines)
    assert setting.text == ", ".join(lines)


@pytest.mark.parametrize("value", ["[]", "[1]", "1", "true", "['/etc/a', '']", "['etc/a']", "[['/a']]", "''"])
def test_lines_that_are_none(value):
    assert mistakes_of(f"[services.a]\nbinary = 'x'\nEnvironmentFile = {value}\n")


@pytest.mark.parametrize(("value", "text"), [("true", "yes"), ("false", "no"), ("'off'", "off"), ("1", "1")])
def test_a_switch_may_be_a_boolean(value, text):
    (slice_,) = config_of(f"[slices.a]\nMemoryZSwapWriteback = {value}\n").slices
    assert slice_.settings[0].text == text


@pytest.mark.parametrize(
    ("body", "mistake"),
    [
        ("Type = 'notify'", ""),
        ("Type = 'notify'\nsmoke.ready = 'notify'", ""),
        ("Type = 'forking'\nsmoke.ready = 'notify'", ""),
        ("Type = 'simple'\nsmoke.ready = 'log:up'", ""),
        ("Type = 'simple'\nsmoke.ready = 'notify'", "systemd learns nothing"),
        ("Type = 'oneshot'\nsmoke.ready = 'notify'", "systemd learns nothing"),
    ],
)
def test_the_type_and_the_readiness_test_agree(body, mistake):
    text = f"[services.a]\nbinary = 'x'\n{body}\n"
    if not mistake:
        assert config_of(text)
        return
    (item,) = mistakes_of(text)
    assert mistake in item.message


def test_an_unknown_key_far_from_all_lists_what_is_allowed():
    (item,) = mistakes_of("[require]\nxyzzy = 1")
    assert item.remedies[0].title == "allowed: controllers, kernel, limits, systemd"


@pytest.mark.parametrize(
    "text",
    [
        "slices = 1",
        "slices = []",
        "[[slices]]",
        "services = 'x'",
        "[slices]\na = 1",
        "[services]\na = []",
        "[[services.a]]",
        "project = 1",
        "[project]\nname = 1",
        "[project]\nname = ['x']",
        "[slices.a]\nMemoryMax = 1.5",
        "[slices.a]\nMemoryMax = true",
        "[slices.a]\nMemoryMax = []",
        "[slices.a]\nCPUQuota = 2024-01-01",
        "[smoke]\nallow_tiny_limits = 'yes'",
        "[require]\ncontrollers = 'memory'",
        "[require]\ncontrollers = [1]",
        "[services.a]\nbinary='x'\nsmoke.env = ['A=b']",
        "[services.a]\nbinary='x'\nsmoke.env = { A = 1 }",
    ],
)
def test_wrong_kinds_of_values(text):
    assert "wrong-type" in names(mistakes_of(text))


@pytest.mark.parametrize("name", ["A B", "1A", "A-B", "", "A=B", "É", "A\n", "A\x1b"])
def test_names_of_variables(name):
    (item,) = mistakes_of(f"[services.a]\nbinary = 'x'\nsmoke.env = {{ {json.dumps(name)} = '' }}")
    assert (item.name, item.location.line) == ("bad-value", 3)


@pytest.mark.parametrize(
    "text",
    [
        "[slices.a]\nMemoryMax = '1G\\n[Service]'",
        '[slices.a]\nMemoryMax = "1G\\nX=1"',
        '[slices.a]\nCPUQuotaPeriodSec = "1ms\\n1ms"',
        '[slices.a]\nAllowedCPUs = "0\\n1"',
        '[slices.a]\nMemoryMax = "1G\\r512M"',
        '[slices.a]\nMemoryMax = "1G\\t512M"',
    ],
)
def test_a_value_stays_on_one_line_of_the_unit_file(text):
    assert mistakes_of(text)


@pytest.mark.parametrize("text", ["", "\n\n", "# nothing\n", "\r\n"])
def test_an_empty_config_says_so(text):
    with pytest.raises(ConfigError) as caught:
        load.parse(text.encode(), shown="f.toml", folder="/")
    (item,) = caught.value.findings
    assert "empty" in item.message
    assert "init" in item.remedies[0].title


@pytest.mark.parametrize(
    ("data", "line"),
    [
        (b"[project]\nname = \n", 2),
        (b"[project]\nname = 'x'\nname = 'y'\n", 3),
        (b"a = 1\nb = \xff\n", 2),
        (b"a = 1\n\nb\n", 3),
        (b"a = '''\n\n", 3),
        (b"[a]\n[a]\n", 2),
    ],
)
def test_what_is_not_toml_names_the_line(data, line):
    with pytest.raises(ConfigError) as caught:
        load.parse(data, shown="f.toml", folder="/")
    (item,) = caught.value.findings
    assert (item.name, item.code) == ("not-toml", "CGP201")
    assert item.location.line == line


def test_a_byte_order_mark_is_told_or_taken():
    """Editors on Windows write one; `Invalid statement` at line 1 helps nobody."""
    data = b"\xef\xbb\xbf[project]\nname = 'x'\n"
    try:
        assert load.parse(data, shown="f.toml", folder="/").project == "x"
    except ConfigError as error:
        assert "byte order mark" in error.findings[0].message.lower() + error.findings[0].remedies[0].title.lower()


def test_a_name_of_300_characters_does_not_fill_the_screen():
    (item,) = mistakes_of(f"[slices.{'x' * 300}]\n")
    assert "300" in item.message
    assert len(item.message) < 160


def test_a_value_of_many_characters_does_not_fill_the_screen():
    for text in (
        f"[slices.a]\nMemoryMax = '{'9' * 4000}'",
        f"[slices.a]\nMemoryMax = '{'x' * 200_000}'",
        f"[slices.a]\n{'k' * 100_000} = 1",
    ):
        (item,) = mistakes_of(text)
        assert len(item.message) < 400
        assert len(item.remedies[0].title) < 600


@pytest.mark.timeout(30)
def test_a_hostile_config_ends_in_time_and_memory():
    """1 MB at most, whatever is in it."""
    many = "".join(f"k{number} = 1\n" for number in range(2_000)).encode()
    deep = b"[slices." + b"a." * 1000 + b"a]\n"
    tracemalloc.start()
    for data in (
        many,
        deep,
        b"x = '" + b"a" * 1_000_000 + b"'\n",
        b"[services.a]\n" + b"args = [" + b"'x'," * 20_000 + b"]\n",
    ):
        _check(data)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 200 << 20


def test_find_looks_upwards_and_says_where_it_began(tmp_path):
    below = tmp_path / "a" / "b"
    below.mkdir(parents=True)
    with pytest.raises(UsageError) as caught:
        load.find(below)
    assert str(below) in str(caught.value)
    assert caught.value.remedy.commands == (("cgroup-preflight", "init"),)
    (tmp_path / "a" / load.FILE_NAME).mkdir()
    (tmp_path / load.FILE_NAME).write_text("")
    assert load.find(below) == tmp_path / load.FILE_NAME


def test_load_reads_a_file_relative_to_the_working_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "c.toml").write_text(WHOLE, encoding="utf-8", newline="\r\n")
    config = load.load(tmp_path / "sub" / "c.toml")
    assert (config.path, config.folder) == ("sub/c.toml", str(tmp_path / "sub"))


@pytest.mark.parametrize("kind", ["missing", "folder", "large"])
def test_load_of_what_cannot_be_read(tmp_path, kind):
    path = tmp_path / "c.toml"
    if kind == "folder":
        path.mkdir()
    elif kind == "large":
        path.write_bytes(b"#" * ((1 << 20) + 1))
    with pytest.raises(UsageError) as caught:
        load.load(path)
    assert "c.toml" in str(caught.value)
    assert caught.value.exit_status == 2
