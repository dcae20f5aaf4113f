"""`[policy]`, its exceptions and the comments that ignore a line: what is read, and each mistake with its line."""

import json
import re
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from cgroup_preflight.config import load
from cgroup_preflight.config.schema import schema
from cgroup_preflight.config.toml_lines import comments
from cgroup_preflight.core.errors import ConfigError
from cgroup_preflight.core.policy import Ignore
from cgroup_preflight.core.report import Location

START = '[project]\nname = "shop"\n'
VALIDATOR = Draft202012Validator(schema())


def rules(text):
    return load.parse((START + text).encode(), shown="x.toml", folder="/x").rules


def mistakes(text):
    with pytest.raises(ConfigError) as caught:
        rules(text)
    return [(item.location.line, item.message, item.remedies[0].title) for item in caught.value.findings]


def at(line):
    return Location(file="x.toml", line=line)


def test_everything_at_once():
    text = (
        '[policy]\nfail_on = ["CGP514", "CGP221"]\nwarn_on = ["CGP505"]\nmachine_warnings = true\n'
        '[[policy.ignore]]\ncode = "CGP506"\nsubject = "w*"\nreason = " why # not "\nuntil = "2027-06-30"\n'
        '[[policy.ignore]]\ncode = "CGP117"\nreason = "no PSI"\n'
    )
    found = rules(text)
    assert (found.fail_on, found.warn_on) == ({"CGP514", "CGP221"}, {"CGP505"})
    assert found.machine_warnings is True
    assert found.ignores == (
        Ignore(code="CGP506", subject="w*", reason="why # not", until="2027-06-30", location=at(7)),
        Ignore(code="CGP117", reason="no PSI", location=at(12)),
    )
    assert dict(found.named) == {"CGP514": at(4), "CGP221": at(4), "CGP505": at(5), "CGP506": at(7), "CGP117": at(12)}
    assert VALIDATOR.is_valid(tomllib.loads(START + text))


def test_a_config_without_a_policy_has_no_rules():
    found = rules('[slices.api]\nMemoryMax = "1G" # cgroup-preflight is here, ignore nothing\n')
    assert not (found.fail_on or found.warn_on or found.ignores or found.named or found.machine_warnings)


def test_an_inline_list_has_the_line_of_its_statement():
    (found,) = rules('[policy]\nignore = [\n{code = "CGP506", reason = "a"}]\n').ignores
    assert found.location == at(4)


@pytest.mark.parametrize(
    ("text", "line", "says", "hint"),
    [
        ('[[policy.ignore]]\ncode = "CGP506"\n', 3, "the key reason is missing", "Why."),
        ('[[policy.ignore]]\nreason = "x"\n', 3, "the key code is missing", "code"),
        ('[[policy.ignore]]\ncode = "CGP506"\nreason = " "\n', 5, "not a reason", "one line that says why"),
        ('[[policy.ignore]]\ncode = "CGP506"\nreason = "a\\nb"\n', 5, "not a reason", "one line"),
        ('[[policy.ignore]]\ncode = "CGP506"\nreason = "a"\nuntil = "30.6.2027"\n', 6, "is not a day", "YYYY-MM-DD"),
        ('[[policy.ignore]]\ncode = "CGP506"\nreason = "a"\nuntil = "2027-02-30"\n', 6, "is not a day", "YYYY-MM-DD"),
        ('[[policy.ignore]]\ncode = "CGP506"\nreason = "a"\nuntil = 2027-06-30\n', 6, "a date or time", "quotes"),
        ('[[policy.ignore]]\ncode = "CGP506"\nreason = "a"\nsubject = ""\n', 6, "is not a subject", "user-api"),
        ('[[policy.ignore]]\ncode = "506"\nreason = "a"\n', 4, "is not a code", "CGP514"),
        ('[[policy.ignore]]\ncode = "CGP703"\nreason = "a"\n', 4, "does not come from", "CGP1xx"),
        ('[[policy.ignore]]\ncode = "CGP221"\nreason = "a"\n', 4, "expired or is not needed", "remove that ignore"),
        ('[[policy.ignore]]\ncode = "CGP506"\nreason = "a"\nwhy = "b"\n', 6, "'why' is not a key", "allowed"),
        ('[policy]\nignore = "CGP506"\n', 4, "not a list of tables", "[[policy.ignore]]"),
        ('[policy]\nignore = ["CGP506"]\n', 4, "not a list of tables", "[[policy.ignore]]"),
        ('[policy.ignore]\ncode = "CGP506"\nreason = "a"\n', 3, "not a list of tables", "two brackets"),
        ('[policy]\nwarn_on = ["CGP501"]\n', 4, "warn_on does not change that", "[[policy.ignore]]"),
        ('[policy]\nfail_on = ["CGP505"]\nwarn_on = ["CGP505"]\n', 5, "is also in fail_on", "one of the two"),
        ('[policy]\nfail_on = "CGP505"\n', 4, "text", "a list"),
        ('[services.a.policy]\nfail_on = ["CGP505"]\n', 3, "'fail_on' is not a key", "headroom_min"),
        ("[slices.api] # cgroup-preflight: ignore\n", 3, "is not a code", "ignore CODE REASON"),
        ("[slices.api] # cgroup-preflight: ignore CGP506\n", 3, "not a reason", "ignore CODE REASON"),
        ("[slices.api] # cgroup-preflight: ignore CGP9 a\n", 3, "is not a code", "ignore CODE REASON"),
    ],
)
def test_a_mistake_has_its_line(text, line, says, hint):
    found = [item for item in mistakes(text) if says in item[1]]
    assert found, mistakes(text)
    if ".policy]" not in text:
        assert found[0][0] == line
    assert hint in found[0][2]


def test_the_second_table_is_named_by_its_own_line():
    text = '[[policy.ignore]]\ncode = "CGP506"\nreason = "a"\n\n[[policy.ignore]]\ncode = "x"\nreason = "a"\n'
    assert [line for line, *_ in mistakes(text)] == [8]


def test_too_many_are_refused():
    table = '[[policy.ignore]]\ncode = "CGP506"\nreason = "a"\n'
    assert len(rules(table * 1000).ignores) == 1000
    assert any("1001 exceptions" in message for _, message, _ in mistakes(table * 1001))


@pytest.mark.parametrize(
    ("text", "line", "about"),
    [
        ("[slices.api]  # cgroup-preflight: ignore CGP506 a\n", 3, 3),
        ("# cgroup-preflight: ignore CGP506 a\n[slices.api]\n", 3, 4),
        ("#cgroup-preflight:ignore CGP506 a\n# more\n[slices.api]\n", 3, 5),
        ("# cgroup-preflight: ignore CGP506 a\n\n[slices.api]\n", 3, 3),
        ("[policy] # one\nfail_on = [\n'CGP514', # cgroup-preflight: ignore CGP506 a\n]\n", 5, 4),
        ("[policy]\nfail_on = [\n# cgroup-preflight: ignore CGP506 a\n]\n", 5, 4),
    ],
)
def test_a_comment_is_about_its_line_or_the_next(text, line, about):
    (found,) = rules(text).ignores
    assert (found.code, found.reason, found.location, found.line) == ("CGP506", "a", at(line), about)


@pytest.mark.parametrize(
    "text",
    [
        "[project2]\n",
        "# cgroup-preflight: see the docs\n[slices.api]\n",
        "# cgroup-preflight: ignored CGP506\n[slices.api]\n",
        '[slices.api]\nMemoryMax = "1G" # ignore CGP506 a\n',
    ],
)
def test_other_comments_are_comments(text):
    if "project2" not in text:
        assert rules(text).ignores == ()


def test_a_comment_in_a_text_is_none():
    text = "[services.a]\nbinary = 'x'\n[services.a.smoke]\nargs = ['# cgroup-preflight: ignore CGP506 a']\n"
    assert rules(text).ignores == ()
    text = '[services.a]\nbinary = "x"\n[services.a.smoke]\nargs = ["""\n# cgroup-preflight: ignore CGP506 a\n"""]\n'
    assert rules(text).ignores == ()


_lines = st.lists(
    st.sampled_from(["# a", "x = 1 # b", "", "[t] # c", "y = [ # d", "1, # e", "]", '"""', "z = '# no'", "  # f"]),
    max_size=12,
)


@given(_lines)
def test_comments_have_a_line_of_the_text_each(lines):
    text = "\n".join(lines)
    for item in comments(text):
        assert 1 <= item.line <= len(lines)
        assert 1 <= item.about <= len(lines) + 1
        assert item.text in lines[item.line - 1]


def test_the_schema_refuses_what_the_loader_refuses():
    for text in (
        '[[policy.ignore]]\ncode = "CGP506"\n', '[policy]\nfail_on = ["x"]\n', '[policy.ignore]\ncode = "CGP506"\n',
        '[[policy.ignore]]\ncode = "CGP506"\nreason = " "\n', '[[policy.ignore]]\ncode="CGP506"\nreason="a"\nuntil="soon"\n',
    ):  # fmt: skip
        assert not VALIDATOR.is_valid(json.loads(json.dumps(tomllib.loads(START + text)))), text
        assert mistakes(text)


def test_the_page_shows_what_is_read():
    page = (Path(__file__).parents[3] / "docs" / "policy.md").read_text("utf-8")
    table, lines = re.findall(r"```toml\n(.*?)```", page, re.DOTALL)
    found = rules(f"[services.worker]\nbinary = 'x'\n{table}")
    assert ({"CGP514"}, {"CGP505"}) == (found.fail_on, found.warn_on)
    assert [(item.code, item.subject, item.until) for item in found.ignores] == [("CGP506", "worker", "2027-06-30")]
    first, second = rules(lines.replace("[services.worker]\n", "[services.worker]\nbinary = 'x'\n")).ignores
    assert (first.code, first.line, second.code, second.line) == ("CGP515", 6, "CGP514", 7)
