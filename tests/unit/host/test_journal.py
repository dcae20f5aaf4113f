"""JSON lines of the journal: fields of every form, hostile and broken ones, and the reader of a running command."""

import json
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cgroup_preflight.core.reading import Known, Missing, Why
from cgroup_preflight.host.command import Completed, LiveRunner, stop
from cgroup_preflight.host.journal import (
    LINE_MAX,
    JournalEntry,
    has_entries,
    journal_argv,
    lines_of,
    parse_entry,
    slices_in_journal,
)

ENTRY = {
    "__REALTIME_TIMESTAMP": "1764430000123456", "MESSAGE": "ready", "_SYSTEMD_UNIT": "a.service",
    "_SYSTEMD_SLICE": "api.slice", "_PID": "42", "PRIORITY": "6",
}  # fmt: skip


def entry(**changed: object) -> JournalEntry | None:
    return parse_entry(json.dumps(ENTRY | changed).encode())


def test_an_entry() -> None:
    assert entry() == JournalEntry(
        time_usec=1764430000123456, unit="a.service", slice="api.slice", message="ready", pid=42, priority=6
    )


@pytest.mark.parametrize(
    ("message", "text"),
    [
        ([72, 105, 255, 27], "Hi\ufffd\x1b"),
        (["one", "two"], "one\ntwo"),
        (["one", [255]], "one\n\ufffd"),
        (None, ""),
        ([], ""),
        (7, ""),
        ({"a": 1}, ""),
        ([True, 300, -1], ""),
    ],
)
def test_a_message_of_every_form(message: object, text: str) -> None:
    found = entry(MESSAGE=message)
    assert found is not None
    assert found.message == text


def test_what_the_manager_says_of_a_unit_is_under_that_unit() -> None:
    for fields, unit in (
        ({"UNIT": "b.service", "_PID": "1", "_SYSTEMD_UNIT": "init.scope"}, "b.service"),
        ({"USER_UNIT": "b.service", "_SYSTEMD_USER_UNIT": "init.scope"}, "b.service"),
        # Any program can write these two fields.
        ({"UNIT": "b.service"}, "a.service"),
        ({"USER_UNIT": "b.service"}, "a.service"),
    ):
        found = entry(**fields)
        assert found is not None
        assert found.unit == unit
    user = entry(_SYSTEMD_USER_UNIT="c.service", _SYSTEMD_UNIT="user@1000.service")
    assert user is not None
    assert user.unit == "c.service"


@pytest.mark.parametrize("line", [b"", b"{", b"[]", b"null", b"\0{}", b"\xff", b"[" * 100_000])
def test_a_line_that_is_no_entry(line: bytes) -> None:
    assert parse_entry(line) is None


@given(st.dictionaries(st.sampled_from([*ENTRY, "UNIT"]), st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(), st.lists, max_leaves=5)))  # fmt: skip
def test_any_fields_are_an_entry_or_none(fields: dict[str, object]) -> None:
    found = parse_entry(json.dumps(fields).encode())
    assert found is None or isinstance(found.message, str)


def test_the_command_line_has_each_unit_for_both_managers_and_no_shell() -> None:
    argv = journal_argv(["a.slice", "--x"], follow=True, since="1 hour ago")
    assert argv[-4:] == ("--unit=a.slice", "--user-unit=a.slice", "--unit=--x", "--user-unit=--x")
    assert {"--follow", "--since=1 hour ago", "--output=json"} <= set(argv)
    assert not {"--follow", "--since="} & set(journal_argv(["a.slice"], follow=False, since=""))


class Runner(LiveRunner):
    """Answers in place of journalctl, which many machines with these tests lack."""

    def __init__(self, *outs: str | None) -> None:
        super().__init__()
        self._outs = outs

    def run_together(self, argvs, *, timeout=20.0, stdin=b""):
        assert len(argvs) == len(self._outs)
        return tuple(
            Missing(source="journalctl", why=Why.ABSENT) if out is None
            else Known(value=Completed(argv=argv, returncode=0, stdout=out, stderr=""), source="journalctl")
            for argv, out in zip(argvs, self._outs, strict=True)
        )  # fmt: skip


def test_names_of_slices() -> None:
    found = slices_in_journal(Runner("api.slice\n\nb.slice\n", "app.slice\n"))
    assert isinstance(found, Known)
    assert found.value == {"api.slice", "b.slice", "app.slice"}
    assert isinstance(slices_in_journal(Runner("", None)), Missing)


@pytest.mark.parametrize(("out", "expected"), [("{}\n", True), ("", False), (None, False)])
def test_whether_there_is_an_entry(out: str | None, expected: bool) -> None:
    assert has_entries(Runner(out), ["a.service"]) is expected


def started(code: str):
    return LiveRunner().start((sys.executable, "-I", "-S", "-c", code))


@pytest.mark.starts_processes
def test_lines_of_a_command_and_what_it_said_on_stderr() -> None:
    said: list[str] = []
    process = started("import sys; print('a'); print('b', flush=True); sys.stderr.write('x\\ny'); sys.exit(3)")
    assert list(lines_of(process, said, stop)) == [b"a", b"b"]
    assert (said, process.returncode) == (["x", "y"], 3)


@pytest.mark.starts_processes
def test_a_line_that_is_too_long_is_left_out() -> None:
    code = f"import os\nfor _ in range(9): os.write(1, b'x' * {LINE_MAX // 8})\nos.write(1, b'\\nshort\\n')"
    lines = list(lines_of(started(code), [], stop))
    assert lines[-1] == b"short"
    assert [parse_entry(line) for line in lines] == [None, None]


@pytest.mark.starts_processes
def test_a_command_that_never_ends_is_ended_when_nobody_reads_on() -> None:
    process = started("import time\nprint('a', flush=True)\ntime.sleep(600)")
    lines = lines_of(process, [], stop)
    assert next(lines) == b"a"
    lines.close()  # type: ignore[attr-defined]
    assert process.poll() is not None
