"""The parsers of kernel files: round trips where there is a model, ValueError alone on anything else."""

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from cgroup_preflight.core.reading import Known, Missing, Why
from cgroup_preflight.host import procfs
from cgroup_preflight.host.cgroupfs import (
    CpuMax,
    Mount,
    mount_at,
    of_type,
    parse_cpu_max,
    parse_flat_keyed,
    parse_limit,
    parse_mountinfo,
    parse_pressure,
    parse_proc_cgroup,
    parse_words,
)
from cgroup_preflight.host.container import read_container
from cgroup_preflight.host.systemd import parse_unit_show
from tests.unit.host.fabricate import FakeFs

PARSERS = {
    "mountinfo": parse_mountinfo,
    "proc_cgroup": parse_proc_cgroup,
    "words": parse_words,
    "flat_keyed": parse_flat_keyed,
    "limit": parse_limit,
    "cpu_max": parse_cpu_max,
    "pressure": parse_pressure,
    "meminfo": procfs.parse_meminfo,
    "status": procfs.parse_status,
    "uid": procfs.parse_uid,
    "number": procfs.parse_number,
    "cpu_list": procfs.parse_cpu_list,
    "line": procfs.parse_line,
    "uptime": procfs.parse_uptime,
    "unit_show": parse_unit_show,
}
ANY = st.one_of(
    st.text(),
    st.text(alphabet="0123456789 :/=-max.,\n\tkBsomefulUid²٣\u2028\x85\x0c\0", max_size=60),
    st.binary(max_size=80).map(lambda data: data.decode("utf-8", "replace")),
)


@pytest.mark.parametrize("name", PARSERS)
@settings(max_examples=50)
@given(text=ANY)
@example(text="")
@example(text="\n")
@example(text="9" * 5000)
@example(text="x " + "9" * 5000)
@example(text="²")
@example(text="max 0")
@example(text="max -1")
@example(text="0::")
@example(text="some avg10=nan total=1e999")
@example(text="Uid:\t0\t²\t0\t0")
@example(text="MemTotal: ² kB")
@example(text="1 2 3:4 / / rw -  - a b c")
def test_only_value_errors(name, text):
    try:
        PARSERS[name](text)
    except ValueError:
        pass


@pytest.mark.timeout(20)
@pytest.mark.parametrize("name", PARSERS)
@pytest.mark.parametrize("piece", ["a", "1", " ", "\n", ":", "a b\n", "a=b\n", "0::/\n", "\\040", " - ", "1,"])
def test_parsers_end_in_time(name, piece):
    """Square time would be minutes here."""
    try:
        PARSERS[name](piece * 100_000)
    except ValueError:
        pass


# Names in the kernel's files may hold anything but NUL, and `/` or a newline where those separate.
TEXT = st.text(alphabet="ab- \t\n\\#\r\x0b\x0c\x1c\x85\u2028é\U0001f40d", max_size=8)
PATH = TEXT.map(lambda text: "/" + text)
WORD = st.sampled_from(["rw", "ro", "cgroup2", "mode=755", "memory", "name=systemd", "a:b", "x-y"])
MOUNTS = st.builds(
    Mount,
    device=st.sampled_from(["0:26", "254:1"]),
    root=PATH,
    point=PATH,
    fs_type=WORD,
    options=st.lists(WORD, min_size=1, max_size=3).map(tuple),
    super_options=st.lists(WORD, min_size=1, max_size=3).map(tuple),
)


def _escaped(text: str) -> str:
    """As the kernel's `mangle` does: blank, tab, newline, backslash and `#`."""
    return "".join(f"\\{ord(char):03o}" if char in " \t\n\\#" else char for char in text)


def _line(mount: Mount, number: int, optional: str) -> str:
    parts = [str(number), "1", mount.device, _escaped(mount.root), _escaped(mount.point), ",".join(mount.options)]
    return " ".join([*parts, *optional.split(), "-", mount.fs_type, "source", ",".join(mount.super_options)]) + "\n"


@given(
    st.lists(
        st.tuples(
            MOUNTS, st.sampled_from(["", "shared:9", "master:1", "shared:1 master:2", "propagate_from:3 unbindable"])
        ),
        max_size=4,
    )
)
@example(
    [(Mount(device="0:26", root="/", point="/mnt/a\x0cb", fs_type="ext4", options=("rw",), super_options=("rw",)), "")]
)
@example(
    [
        (
            Mount(
                device="0:26",
                root="/",
                point="/mnt/a\u2028b\x85c",
                fs_type="ext4",
                options=("rw",),
                super_options=("rw",),
            ),
            "",
        )
    ]
)
@example(
    [
        (
            Mount(
                device="0:26",
                root="/a - b",
                point="/mnt/c - d\\",
                fs_type="ext4",
                options=("rw",),
                super_options=("rw",),
            ),
            "shared:1",
        )
    ]
)
def test_mountinfo_round_trips(cases):
    """Any user may mount something at a strange place (FUSE, user namespaces); the other mounts stay readable."""
    text = "".join(_line(mount, number, optional) for number, (mount, optional) in enumerate(cases))
    assert parse_mountinfo(text) == tuple(mount for mount, _ in cases)


def test_mounts_of_a_hybrid_host():
    text = """\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime shared:1 - cgroup2  rw
42 31 0:38 / /mnt/with\\040blank ro - ext4 /dev/sda1 rw
43 31 0:39 / /sys/fs/cgroup rw - cgroup2 none ro
"""
    mounts = parse_mountinfo(text)
    assert [mount.point for mount in of_type(mounts, "cgroup")] == ["/sys/fs/cgroup/cpu"]
    assert mounts[1].super_options == ("rw", "cpu")
    assert mounts[3].point == "/mnt/with blank"
    assert [mount.read_only for mount in mounts] == [False, False, False, True, True]
    assert mount_at(mounts, "/sys/fs/cgroup").fs_type == "cgroup2", "the later mount hides the earlier one"
    assert mount_at(mounts, "/sys") is None


@pytest.mark.parametrize("text", ["x", "1 2 3 4 5 6", "1 2 3 4 5 6 - a b", "1 2 3 4 5 - a b c", "a - b - c"])
def test_mountinfo_of_another_form(text):
    with pytest.raises(ValueError, match="not a mountinfo line"):
        parse_mountinfo(text)


CGROUP_PATH = st.text(st.characters(exclude_characters="\0\n", exclude_categories=["Cs"]), max_size=15).map(
    lambda text: "/" + text
)


@given(CGROUP_PATH, st.booleans(), st.booleans())
@example("/a\x0cb", False, False)
@example("/a\u2028b", False, True)
@example("/a\rb:c", True, False)
def test_proc_cgroup_round_trips(path, hybrid, deleted):
    """A cgroup may have any name but one with a newline or a slash."""
    above = "12:cpu,cpuacct:/x:y\n1:name=systemd:/a\n" if hybrid else ""
    path += " (deleted)" if deleted else ""
    assert parse_proc_cgroup(f"{above}0::{path}\n") == path


@pytest.mark.parametrize(
    "text", ["", "1:name=systemd:/\n", "0:cpu:/\n", "0::\n", "0::x\n", "x::/\n", "0:/\n", "::/\n", "-1::/\n"]
)
def test_proc_cgroup_without_version_2(text):
    with pytest.raises(ValueError, match="cgroup"):
        parse_proc_cgroup(text)


def test_proc_cgroup_examples():
    assert parse_proc_cgroup("0::/\n") == "/"
    assert parse_proc_cgroup("0::/../x\n") == "/../x"
    assert parse_proc_cgroup("0::/system.slice/a.service (deleted)\n") == "/system.slice/a.service (deleted)"


@given(st.frozensets(st.text(alphabet="abcpumeory_.0123", min_size=1).filter(lambda word: word.strip("_."))))
def test_words_round_trip(words):
    assert parse_words(" ".join(words) + "\n") == words


def test_words_are_whole():
    assert "cpu" not in parse_words("cpuset io memory\n")
    assert parse_words("\n") == frozenset()
    for text in ("<html>", "a,b", "cpu é", "+cpu", "a\0b", "memory=1"):
        with pytest.raises(ValueError, match="not a word"):
            parse_words(text)


@given(st.dictionaries(st.text(alphabet="abc_.", min_size=1), st.integers(0, 1 << 64)))
def test_flat_keyed_round_trips(values):
    assert parse_flat_keyed("".join(f"{key} {value}\n" for key, value in values.items())) == values


@pytest.mark.parametrize("text", ["a", "a ", "a b", "a -1", " 1", "a 1.5", "a 1 2", "a\t1", "a ²"])
def test_flat_keyed_of_another_form(text):
    with pytest.raises(ValueError, match="KEY VALUE"):
        parse_flat_keyed(text)


def test_throttled_time_is_version_1_and_a_number_all_the_same():
    assert parse_flat_keyed("usage_usec 5\nnr_periods 2\nthrottled_usec 7\n")["throttled_usec"] == 7


@given(st.one_of(st.none(), st.integers(0, 1 << 64)))
def test_limits_round_trip(value):
    assert parse_limit(f"{'max' if value is None else value}\n") == value


@given(st.one_of(st.none(), st.integers(1, 1 << 50)), st.integers(1, 1_000_000))
def test_cpu_max_round_trips(quota, period):
    found = parse_cpu_max(f"{'max' if quota is None else quota} {period}\n")
    assert found == CpuMax(quota, period)
    assert found.cpus == (None if quota is None else quota / period)


@pytest.mark.parametrize("text", ["-1", "", "max max", "512M", "0x10", "+5", "1 2", "٣", "infinity"])
def test_limits_of_another_form(text):
    with pytest.raises(ValueError, match="not a limit"):
        parse_limit(text)


@pytest.mark.parametrize("text", ["", "max", "100000", "max 0", "-1 100000", "max 100000 5", "a b", "100000 -5", "1 ²"])
def test_cpu_max_of_another_form(text):
    """-1 is version 1 (`cpu.cfs_quota_us`)."""
    with pytest.raises(ValueError, match=r"not a|invalid literal"):
        parse_cpu_max(text)


@given(
    st.lists(st.floats(0, 100, allow_nan=False).map(lambda number: round(number, 2)), min_size=6, max_size=6),
    st.integers(0, 1 << 50),
)
def test_pressure_round_trips(numbers, total):
    lines = [
        f"{kind} avg10={a:.2f} avg60={b:.2f} avg300={c:.2f} total={total}\n"
        for kind, (a, b, c) in (("some", numbers[:3]), ("full", numbers[3:]))
    ]
    found = parse_pressure("".join(lines))
    assert found["some_avg10"] == numbers[0]
    assert found["full_avg300"] == numbers[5]
    assert found["some_total"] == found["full_total"] == total


@pytest.mark.parametrize("text", ["none avg10=1", "some avg10", "some avg10=x", "some=1", "\n"])
def test_pressure_of_another_form(text):
    with pytest.raises(ValueError, match=r"."):
        parse_pressure(text)


def test_meminfo():
    found = procfs.parse_meminfo(
        "MemTotal:        4030456 kB\nHugePages_Total:       0\nMemAvailable:    3204568 kB\nodd line\n"
    )
    assert found == {"MemTotal": 4030456 * 1024, "MemAvailable": 3204568 * 1024}
    with pytest.raises(ValueError, match="MemTotal"):
        procfs.parse_meminfo("MemFree: 5 kB\n")


def test_uid_is_the_effective_one():
    assert procfs.parse_uid("Name:\tx\nUid:\t1000\t0\t1000\t1000\n") == 0
    for text in ("", "Uid:\n", "Uid:\t1\n", "Uid:\ta\tb\tc\td\n", "Gid:\t0\t0\t0\t0\n"):
        with pytest.raises(ValueError, match="Uid"):
            procfs.parse_uid(text)


def test_one_line():
    assert procfs.parse_line("6.1.0-18-amd64\n") == "6.1.0-18-amd64"
    for text in ("", "\n", "a\nb", "a\x1b[31m", "a\0"):
        with pytest.raises(ValueError, match="one line"):
            procfs.parse_line(text)


VALUE = st.text(alphabet="ab= :/\r\x0c\x85\u2028é", max_size=8)
UNITS = st.lists(
    st.dictionaries(st.sampled_from(["Id", "Result", "ControlGroup", "FragmentPath"]), VALUE, min_size=1, max_size=3),
    max_size=3,
)


@given(UNITS)
@example([{"ControlGroup": "/a\x0c/b"}])
def test_unit_show_round_trips(units):
    """systemctl(1) show: one empty line between units; a value is what follows the first `=`, whatever it holds."""
    text = "\n".join("".join(f"{key}={value}\n" for key, value in unit.items()) for unit in units)
    assert parse_unit_show(text) == tuple(units)


def test_unit_show_examples():
    text = "Id=a.service\nResult=success\nControlGroup=/a=b\n\nId=b.service\nResult=\n"
    assert parse_unit_show(text) == (
        {"Id": "a.service", "Result": "success", "ControlGroup": "/a=b"},
        {"Id": "b.service", "Result": ""},
    )
    assert parse_unit_show("") == ()


def test_an_option_without_a_value_says_nothing():
    lines = ("CONFIG_PSI=", "CONFIG_SWAP=y", "# CONFIG_MEMCG is not set")
    assert procfs.parse_kernel_config(lines) == {"CONFIG_SWAP": "y", "CONFIG_MEMCG": "n"}


def test_an_empty_kernel_file_is_empty_and_a_cut_one_malformed():
    files = FakeFs({"/empty": "", "/whole": "1\n", "/cut": "1"})
    assert procfs.read_kernel(files, "/empty", str) == Known(value="", source="/empty")
    assert procfs.read_kernel(files, "/whole", str) == Known(value="1\n", source="/whole")
    cut = procfs.read_kernel(files, "/cut", str)
    assert isinstance(cut, Missing)
    assert cut.why is Why.MALFORMED


@pytest.mark.parametrize(("length", "known"), [(40, True), (41, False)])
def test_the_longest_name_of_a_container_manager(length, known):
    reading = read_container(FakeFs({"/run/systemd/container": "a" * length + "\n"}), Known(value="6.1.0", source="k"))
    assert isinstance(reading, Known) is known


@pytest.mark.parametrize(
    ("parse", "text"),
    [
        (parse_flat_keyed, "a {}"), (parse_limit, "{}"), (parse_cpu_max, "{} 100000"), (parse_cpu_max, "max {}"),
        (procfs.parse_meminfo, "MemTotal: {} kB\n"), (procfs.parse_number, "{}"),
    ],
)  # fmt: skip
def test_a_number_that_no_kernel_has_is_another_form(parse, text):
    """A host can say any: one with a thousand digits is no number that can be divided."""
    parse(text.format("9" * 20))
    for digits in (21, 400, 5000):
        with pytest.raises(ValueError, match=r"."):
            parse(text.format("9" * digits))


@pytest.mark.parametrize("number", ["nan", "inf", "-inf", "1e999"])
def test_pressure_is_a_finite_number(number):
    with pytest.raises(ValueError, match="not a number"):
        parse_pressure(f"some avg10={number} total=1")


@pytest.mark.parametrize(
    ("text", "found"),
    [("0.00 0.00\n", 0), ("12.34 5.00\n", 12_340_000_000), ("99999999.99 1.00", 99_999_999_990_000_000)],
)
def test_an_uptime_is_in_nanoseconds(text, found):
    assert procfs.parse_uptime(text) == found
