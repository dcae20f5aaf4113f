"""The live table: 80 columns, every name printable, keys that sort, and an end."""

import fcntl
import os
import re
import struct
import termios
import unicodedata
from collections.abc import Sequence

import pytest

from cgroup_preflight.core.errors import UsageError
from cgroup_preflight.metrics import live_table
from cgroup_preflight.metrics.contention import judge
from cgroup_preflight.metrics.live_rows import KEYS, rows_of, table
from cgroup_preflight.metrics.moment import Moment
from cgroup_preflight.metrics.window import Memory
from tests.unit.metrics.readings import contended
from tests.unit.metrics.windows import group, pressure, series

_MIB = 1 << 20
_TREE = series(
    group("/a.slice", 0.5, 0.9, quota=0.5, periods=100, throttled=98, throttled_cpus=1.5),
    group("/a.slice/v.service", 0.1, 0.9, local_cpus=0.4),
    group("/a.slice/with-a-very-long-name-of-a-unit@and-an-instance.service", 0.4, 0.9, local_cpus=1.2),
    group("/m.service", memory=Memory(current=96 * _MIB, max=128 * _MIB, events={"oom_kill": 2, "oom": 2, "max": 2},
                                      pressure=pressure(0.3))),
    group("/x\x1b[2J\u202e.service"),
)  # fmt: skip


def test_a_table_fits_eighty_columns_and_says_everything() -> None:
    rows = rows_of(_TREE, judge(_TREE).diagnoses, "c")
    lines = table(rows, 80, 24, "head")
    assert all(len(line) <= 80 and line.isprintable() for line in lines)
    assert lines[1].split() == [
        "slice",
        "or",
        "unit",
        "CPU",
        "quota",
        "thr",
        "wait",
        "memory",
        "free",
        "OOM",
        "because",
        "of",
    ]
    (victim,) = [line for line in lines if line.startswith("  v.service")]
    assert victim.split() == ["v.service", "0.10", "0.50", "-", "90%c", "1M", "-", "-", "C2", "a.slice"]
    (eater,) = [line for line in lines if line.startswith("m.service")]
    assert eater.split() == ["m.service", "0.00", "-", "-", "30%m", "96M", "25%", "2", "M1", "itself"]


@pytest.mark.parametrize(
    ("key", "first"),
    [("c", "/a.slice"), ("t", "/a.slice"), ("w", "/a.slice"), ("m", "/m.service"), ("o", "/m.service")],
)
def test_each_key_sorts(key: str, first: str) -> None:
    assert rows_of(_TREE, (), key)[0].path == first


def test_names_sort_as_a_tree() -> None:
    paths = [row.path for row in rows_of(_TREE, (), "n")]
    assert paths == sorted(paths)


@pytest.mark.parametrize("columns", [20, 40, 80, 200])
def test_no_line_is_longer_than_the_terminal(columns: int) -> None:
    assert all(len(line) <= columns for line in table(rows_of(_TREE, (), "c"), columns, 5, "x" * 300))
    assert len(table(rows_of(_TREE, (), "c"), columns, 3, "")) == 3


def _columns(line: str) -> int:
    return sum(
        0 if unicodedata.combining(item) else 2 if unicodedata.east_asian_width(item) in "WF" else 1 for item in line
    )


@pytest.mark.parametrize("columns", [20, 41, 80])
def test_wide_characters_and_marks_keep_the_columns_in_place(columns: int) -> None:
    tree = series(
        group("/データベース処理サービス一号機.service", 0.9), group("/e\u0301te\u0301.service", 0.8), group("/plain.service", 0.7),
    )  # fmt: skip
    lines = table(rows_of(tree, (), "c"), columns, 9, "ホスト" * 40)
    assert all(_columns(line) <= columns for line in lines)
    if columns == 80:
        at = [
            _columns(line[: line.index(text)]) for line, text in zip(lines[2:], ("0.90", "0.80", "0.70"), strict=True)
        ]
        assert len(set(at)) == 1
        assert "データ" in lines[2]
        assert "機.service" in lines[2]


class _Terminal:
    """Keys that are pressed one after another, and what was shown."""

    def __init__(self, keys: str) -> None:
        self.keys, self.shown = list(keys), list[list[str]]()
        self.screen = live_table.Screen(lambda: (80, 24), self._key, lambda lines: self.shown.append(list(lines)))

    def _key(self, _wait: float) -> str:
        key = self.keys.pop(0)
        return "" if key == "." else key


def _follow(keys: str, tops: Sequence[str] = ()) -> list[list[str]]:
    readings = iter(contended(9))
    terminal = _Terminal(keys)
    live_table.follow(terminal.screen, lambda: next(readings), next(readings), tops, 3.0)
    return terminal.shown


def test_it_follows_until_q() -> None:
    shown = _follow("....q")
    assert len(shown) == 4
    assert shown[-1][0].startswith("4 s, 2 CPUs ") or shown[-1][0].startswith("3 s, 2 CPUs ")
    assert any("C1 itself" in line for line in shown[-1])


def test_a_key_sorts_at_once_without_a_new_reading() -> None:
    shown = _follow("..nq")
    assert "by name" in shown[-1][0]
    assert "by CPU" in shown[-2][0]
    assert set(KEYS) == set("ctwmon")


def test_only_chosen_cgroups_are_shown() -> None:
    shown = _follow("..q", ("/api.slice/a.service",))
    assert [line.split()[0] for line in shown[-1][2:]] == ["a.service"]


def test_without_a_terminal_it_writes_lines_and_ends_with_its_reader(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    readings = iter(contended(4))

    def read() -> object:
        try:
            return next(readings)
        except StopIteration:
            raise BrokenPipeError from None  # as a write after `| head` ended

    monkeypatch.setattr(live_table, "_EVERY", 0.0)
    assert live_table.watch(read, (), 10.0) == 0  # type: ignore[arg-type]
    out = capsys.readouterr().out
    assert out.count("slice or unit") == 3
    assert "\x1b" not in out


def test_a_unit_that_does_not_exist_has_a_nearest_name() -> None:
    with pytest.raises(UsageError) as error:
        live_table.watch(lambda: contended(1)[0], ("calm.servic",), 10.0)
    assert error.value.remedy.title == "did you mean calm.service?"


def test_a_terminal_is_used_and_is_afterwards_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pseudo terminal of 80 columns: the other screen, a key without a newline, no echo, and back."""
    master, slave = os.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    before = termios.tcgetattr(slave)
    readings = iter(contended(8))
    with os.fdopen(slave, "r", closefd=False) as stdin, os.fdopen(slave, "w", closefd=False) as stdout:
        monkeypatch.setenv("TERM", "xterm")
        monkeypatch.setattr("sys.stdin", stdin)
        monkeypatch.setattr("sys.stdout", stdout)
        monkeypatch.setattr(live_table, "_EVERY", 0.05)

        def read() -> Moment:
            found = next(readings)
            if found.time >= 103:
                os.write(master, b"nq")
            return found

        assert live_table.watch(read, (), 10.0) == 0
        shown = ""
        while not shown.endswith("\x1b[?1049l"):
            shown += os.read(master, 1 << 16).decode()
    assert termios.tcgetattr(slave) == before
    for handle in (master, slave):
        os.close(handle)
    assert shown.startswith("\x1b[?1049h\x1b[?25l")
    assert shown.endswith("\x1b[?25h\x1b[?1049l")
    assert "keys: c t w m o n, q=quit\x1b" in shown
    assert "by name" in shown
    assert "C1 itself" in shown
    lines = re.sub(r"\x1b\[[?0-9;]*[a-zA-Z]", "\n", shown).splitlines()
    assert max(len(line) for line in lines) <= 80
