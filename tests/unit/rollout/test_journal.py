"""The journal on the disk: what is written, and what of a file is believed."""

import json
import os
import stat

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cgroup_preflight.core.errors import HostError
from cgroup_preflight.rollout import journal as journals
from cgroup_preflight.rollout.journal import JournalError, create, parse, read, reopen
from cgroup_preflight.rollout.machine import ENDS, Act, OutOfOrderError, Phase, next_act

BEGIN = {"rollout": "r1", "boot": "b", "manager": "systemd", "units": [], "stages": [{}, {}]}
GOOD = {"stage": 0, "verdict": "success", "reasons": [], "numbers": {}}


def lines(*records: dict) -> bytes:
    return b"".join(
        json.dumps({"v": 1, "n": number, "at": 1.0, **record}).encode() + b"\n" for number, record in enumerate(records)
    )


FIRST = {"kind": "begin", **BEGIN}


@pytest.fixture
def journal(tmp_path):
    made = create(str(tmp_path / "r1.journal"))
    made.add("begin", 1.0, **BEGIN)
    yield made
    made.close()


def test_what_is_written_is_read_back(journal):
    assert journal.add("step", 2.0, stage=0).phase is Phase.CHANGING
    journal.add("verified", 3.0, stage=0)
    found = read(journal.path)
    assert found.state == journal.state
    assert [item["kind"] for item in found.records] == ["begin", "step", "verified"]
    assert not found.torn
    assert stat.S_IMODE(os.stat(journal.path).st_mode) == 0o600


def test_a_torn_last_line_is_ignored_and_cut_off(journal):
    journal.add("step", 2.0, stage=0)
    with open(journal.path, "ab") as file:
        file.write(b'{"v":1,"n":2,"kind":"veri')
    found = read(journal.path)
    assert (found.torn, found.state.phase) == (True, Phase.CHANGING)
    again = reopen(journal.path)
    again.add("verified", 3.0, stage=0)
    again.close()
    assert read(journal.path).state.phase is Phase.WATCHING


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"[]\n", "not a record"),
        (b"{\n", "line 1"),
        (lines({**FIRST, "v": 2}), "version '2'"),
        (lines({**FIRST, "n": 1}), "missing"),
        (lines({**FIRST, "kind": "odd"}), "unknown kind"),
        (lines({"kind": "begin"}), "without"),
        (lines({"kind": "step", "stage": 0}), "begin"),
        (lines(FIRST, {"kind": "verified", "stage": 0}), "cannot follow"),
        (lines(FIRST, {"kind": "step", "stage": 1}), "cannot follow"),
        (lines(FIRST, {"kind": "step", "stage": True}), "without stage"),
        (lines(FIRST, {"kind": "step", "stage": 0}, {"kind": "verified", "stage": 0}, {"kind": "judged", **GOOD, "verdict": "fine"}), "verdict"),
        (b'{"v":1,"n":0,"kind":"begin","x":NaN}\n', "no number"),
        (b"[" * 100_000 + b"\n", "line 1"),
        (b"\xff\n", "line 1"),
    ],
)  # fmt: skip
def test_what_is_odd_is_refused(data, words):
    with pytest.raises(JournalError, match=words):
        parse(data, "r1.journal")


def test_no_whole_record_is_no_rollout():
    assert parse(b"", "r1.journal") is None
    assert parse(lines(FIRST)[:-1], "r1.journal") is None


def test_a_journal_of_somebody_else_is_refused(journal):
    os.chmod(journal.path, 0o622)
    with pytest.raises(JournalError, match="others may write"):
        read(journal.path)


def test_a_link_and_a_fifo_are_no_journal(tmp_path, journal):
    os.symlink(journal.path, tmp_path / "link.journal")
    os.mkfifo(tmp_path / "fifo.journal")
    for name in ("link", "fifo"):
        with pytest.raises(JournalError):
            read(str(tmp_path / f"{name}.journal"))


def test_two_rollouts_do_not_share_a_journal(journal):
    with pytest.raises(JournalError, match="cannot write"):
        create(journal.path)


def test_a_record_that_cannot_follow_is_never_written(journal):
    with pytest.raises(OutOfOrderError):
        journal.add("promote", 2.0)
    assert len(read(journal.path).records) == 1


def test_names_come_in_order_of_time(tmp_path):
    for name in ("20260102-x", "20260101-x"):
        create(str(tmp_path / f"{name}.journal")).close()
    assert [os.path.basename(path) for path in journals.names(str(tmp_path))] == [
        "20260101-x.journal",
        "20260102-x.journal",
    ]
    assert journals.names(str(tmp_path / "none")) == ()


@given(st.binary(max_size=400))
def test_any_bytes_are_read_or_refused(data):
    try:
        parse(data, "x")
    except JournalError:
        pass


kinds = st.sampled_from([
    {"kind": "step", "stage": 0}, {"kind": "step", "stage": 1}, {"kind": "verified", "stage": 0}, {"kind": "verified", "stage": 1},
    {"kind": "judged", **GOOD}, {"kind": "judged", **GOOD, "stage": 1}, {"kind": "judged", **GOOD, "verdict": "inconclusive"},
    {"kind": "judged", **GOOD, "verdict": "failed"}, {"kind": "judged", **GOOD, "stage": 1, "verdict": "error"}, {"kind": "watch"},
    {"kind": "promote"}, {"kind": "promoted"}, {"kind": "rollback", "reason": "r", "left": []}, {"kind": "restored", "by": "tool"},
    {"kind": "stuck", "reason": "r"}, {"kind": "note", "text": "t"},
])  # fmt: skip


@given(st.lists(kinds, max_size=25))
def test_no_end_is_left_and_promotion_needs_every_stage_and_a_soak(records):
    kept = [FIRST]
    for record in records:
        try:
            state = parse(lines(*kept, record), "x").state
        except JournalError:
            continue
        before = parse(lines(*kept), "x").state
        assert before.phase not in ENDS or record["kind"] == "note"
        kept.append(record)
        if state.phase in (Phase.PROMOTABLE, Phase.PROMOTING, Phase.DONE):
            good = [item["stage"] for item in kept if item["kind"] == "judged" and item["verdict"] == "success"]
            assert good == [0, 1, 1]
        assert (next_act(state) is Act.NOTHING) == (state.phase in ENDS)


def test_a_record_that_no_reader_would_accept_is_never_written(journal):
    before = len(read(journal.path).records)
    with pytest.raises(HostError, match="no room"):
        journal.add("note", 2.0, text="x" * (1 << 20))
    assert len(read(journal.path).records) == before


@pytest.mark.parametrize(("name", "most"), [("_RECORDS_MAX", 110), ("_SIZE_MAX", (1 << 20) + 1000)])
def test_a_full_journal_has_room_for_the_end(journal, monkeypatch, name, most):
    monkeypatch.setattr(journals, name, most)
    with pytest.raises(HostError, match="no room") as caught:
        for _ in range(100):
            journal.add("sample", 2.0)
    assert not isinstance(caught.value, JournalError), "it is taken back as after any other failure"
    journal.add("rollback", 3.0, reason="x", left=[])
    journal.add("restored", 3.0, by="tool")
    assert read(journal.path).state.phase is Phase.ROLLED_BACK
