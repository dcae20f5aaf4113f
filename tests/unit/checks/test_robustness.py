"""One answer of a host replaced by rubbish: no traceback, no better verdict, and it is said which file it was.

What the kernel may well say (an empty list, a shorter text that is whole) is not rubbish and not tried here.
"""

import functools
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cgroup_preflight.core.report import Status, Verdict
from cgroup_preflight.core.verdict import verdict_of
from tests.unit.checks import hosts

_HUGE = {"missing": "malformed", "detail": "larger than 4M"}
_BINARY = {"missing": "malformed", "detail": "not text"}
_DENIED = {"missing": "denied", "errno": "EACCES"}
_BROKEN = {"missing": "failed", "errno": "EIO"}
_UNREADABLE = {"huge": _HUGE, "binary": _BINARY, "denied": _DENIED, "broken": _BROKEN, "not recorded": None}
_RUBBISH = ("", "\0", "\n", "-1\n", "max", "\u0660\n", "a b c d\n", "9" * 5000 + "\n", "0::\n", "x" * 10_000)
#: One of each kind, every answer of which is tried in every way; of the others one way an answer.
_EVERY_WAY = ("debian-12-user-slice-capped", "debian-12-read-only", "debian-12-user-without-cpu", "podman-rootful",
              "debian-12-root-slice-without-cpu", "debian-12-hybrid")  # fmt: skip
_ORDER = (Verdict.FAIL, Verdict.UNVERIFIED, Verdict.PASS)
#: What the smoke run, the plan and the report ask for, and no check judges by; page size has a value for all.
_NOT_JUDGED = {"machine", "page_size", "read /proc/sys/kernel/pid_max", "read /proc/sys/kernel/threads-max"}


@functools.cache
def _verdict(name: str) -> Verdict:
    return verdict_of(hosts.judge(hosts.facts_of(hosts.recording(name)), hosts.shop())[1])


def _judged(name: str, part: str, question: str, entry: object) -> str:
    """Asserts what holds whatever an answer is replaced by; returns all that was said."""
    document = hosts.recording(name)
    if entry is None:
        del document[part][question]
    else:
        document[part][question] = entry
    context, findings = hosts.judge(hosts.facts_of(document), hosts.shop())
    assert not any("has a defect" in item.message for item in findings), findings
    verdict = verdict_of(findings)
    before = _verdict(name)
    assert before is Verdict.PASS or verdict is not Verdict.PASS, (name, question, entry)
    for item in findings:
        if item.status in hosts.BAD:
            assert item.remedies, item
            assert item.evidence, item
    said = " ".join(f"{item.message} {dict(item.evidence)}" for item in findings)
    if _ORDER.index(verdict) < _ORDER.index(before):
        assert _path(part, question) in f"{said} {context.engine.why_not}", (name, question, entry)
    return said


def _path(part: str, question: str) -> str:
    if part == "commands":
        return question.split(" ")[0]
    return question.split(" ")[1] if " " in question else question


def _answers(name: str) -> list[tuple[str, str]]:
    document = hosts.recording(name)
    return [(part, question) for part in ("host", "commands") for question in document[part]]


@pytest.mark.parametrize("name", _EVERY_WAY)
@pytest.mark.parametrize("way", _UNREADABLE)
def test_unreadable(name, way):
    for part, question in _answers(name):
        _judged(name, part, question, _UNREADABLE[way])


@pytest.mark.parametrize("name", _EVERY_WAY[:4])
def test_rubbish_and_cut_off(name):
    for part, question in _answers(name):
        entry = hosts.recording(name)[part][question]
        texts = list(_RUBBISH)
        if question.startswith("read ") and isinstance(entry.get("value"), str) and len(entry["value"]) > 1:
            texts += [entry["value"][: len(entry["value"]) // 2], entry["value"][:-1]]
        for text in texts:
            if question.startswith("read "):
                _judged(name, part, question, {"value": text})
            elif question.startswith("pieces "):
                _judged(name, part, question, {**entry, "value": [text]})
            elif question.startswith("link "):
                _judged(name, part, question, {"value": text})
            elif part == "commands":
                _judged(name, part, question, {"status": entry["status"], "out": text, "err": text})


@pytest.mark.parametrize("name", hosts.NAMES)
def test_every_host_in_some_way(name):
    ways = list(_UNREADABLE.values())
    # The same ones each time, others for each host.
    chance = random.Random(name)
    answers = [(part, question) for part, question in _answers(name) if question not in _NOT_JUDGED]
    for part, question in chance.sample(answers, min(40, len(answers))):
        _judged(name, part, question, chance.choice(ways))


@pytest.mark.parametrize("name", ["debian-12", "debian-12-user-delegated", "debian-13"])
def test_what_a_pass_rests_on_is_missed(name):
    """Denied, each file either is of no account, or is named: nothing is passed over."""
    plain = _all_said(name)
    for part, question in _answers(name):
        document = hosts.recording(name)
        document[part][question] = _DENIED
        _, findings = hosts.judge(hosts.facts_of(document), hosts.shop())
        said = " ".join(f"{item.message} {dict(item.evidence)}" for item in findings)
        if question not in _NOT_JUDGED and said != plain:
            assert _path(part, question) in said, question


def _all_said(name: str) -> str:
    _, findings = hosts.judge(hosts.facts_of(hosts.recording(name)), hosts.shop())
    return " ".join(f"{item.message} {dict(item.evidence)}" for item in findings)


@given(st.data())
def test_any_texts_at_all(data):
    """Several answers at once, anything in them: no traceback, and no pass of a host that fails."""
    name = data.draw(st.sampled_from(_EVERY_WAY))
    document = hosts.recording(name)
    for part, question in data.draw(st.lists(st.sampled_from(_answers(name)), max_size=6)):
        entry = data.draw(st.sampled_from(("text", "list", "number", "flag", "none", "reason")))
        document[part][question] = {
            "text": {"value": data.draw(st.text(max_size=40))},
            "list": {"value": data.draw(st.lists(st.text(max_size=20), max_size=4)), "keep": []},
            "number": {"value": 7}, "flag": {"value": True}, "none": {"value": None},
            "reason": {"missing": data.draw(st.text(max_size=10)), "errno": data.draw(st.text(max_size=10))},
        }[entry]  # fmt: skip
    _, findings = hosts.judge(hosts.facts_of(document), hosts.shop())
    assert not any("has a defect" in item.message for item in findings), findings
    assert {item.status for item in findings} <= set(Status)
