"""`explain`: a code, a name, a property, a file of a cgroup, a word, nothing at all, and what nobody knows."""

import re

import pytest

from cgroup_preflight.checks.reference import entries, entry, known_codes
from cgroup_preflight.checks.search import entries_about, nearest_word, property_of
from cgroup_preflight.cli.explain import main
from cgroup_preflight.config.properties import PROPERTIES
from cgroup_preflight.core.errors import UsageError


def said(capsys, *words: str) -> str:
    assert main(list(words)) == 0
    return capsys.readouterr().out


def listed(text: str) -> list[str]:
    return re.findall(r"^(CGP\d{3})  ", text, re.MULTILINE)


@pytest.mark.parametrize("code", known_codes())
def test_each_code_and_each_name_has_its_page(capsys, code):
    item = entry(code)
    by_code = said(capsys, code.lower())
    assert by_code.startswith(f"{code} {item.code.name} (at worst: {item.code.worst})\n")
    assert said(capsys, item.code.name).startswith(by_code)
    assert all(source in by_code for source in item.page.sources)


def test_a_page_says_what_it_does_what_a_failure_means_and_what_to_do(capsys):
    text = said(capsys, "CGP504")
    heads = [line for line in text.splitlines() if line.endswith(":") and not line.startswith(" ")]
    assert heads == ["What it does:", "When it fails:", "What to do:", "Sources:"]
    assert "Checks that the kernel killed no process of the service for memory." in text
    assert "When it warns:" in said(capsys, "CGP508")
    assert "What it tells:" in said(capsys, "CGP509")


def test_nothing_lists_all_in_order_with_titles(capsys):
    text = said(capsys)
    assert listed(text) == sorted(known_codes()) == list(known_codes())
    assert re.search(r"^CGP504  oom-kill +Checks that the kernel killed no process", text, re.MULTILINE)
    assert all(len(line) < 160 for line in text.splitlines())


@pytest.mark.parametrize("item", PROPERTIES, ids=lambda item: item.name)
def test_a_property_is_described_and_finds_its_codes(capsys, item):
    text = said(capsys, item.name)
    for part in (item.name, item.doc, item.attribute or "only systemd", item.controller, str(item.since), item.example):
        assert part in text
    assert {"CGP204", "CGP501"} <= set(listed(text))
    assert said(capsys, f"{item.name.lower()}=").partition("Codes about")[0] == text.partition("Codes about")[0]


def test_memory_max_by_property_and_by_file(capsys):
    by_property, by_file = said(capsys, "MemoryMax"), said(capsys, "memory.max")
    assert {"CGP208", "CGP405", "CGP501", "CGP504", "CGP511"} <= set(listed(by_property))
    assert "CGP206" not in listed(by_property)
    assert listed(by_property) == listed(by_file) == sorted(listed(by_file))


@pytest.mark.parametrize(
    ("word", "code"),
    [("cpu.stat", "CGP509"), ("cgroup.type", "CGP111"), ("swap", "CGP115"), ("docker", "CGP124"), ("GOMEMLIMIT", "CGP405"),
     ("oom", "CGP504"), ("cgroup.subtree_control", "CGP110"), ("linger", "CGP123")],
)  # fmt: skip
def test_a_file_or_a_word_finds_the_codes_about_it(capsys, word, code):
    text = said(capsys, word)
    assert code in text
    assert said(capsys, word.upper()).count("CGP") == text.count("CGP")


def test_a_word_that_is_a_name_shows_the_page_and_the_others(capsys):
    text = said(capsys, "swap")
    assert text.startswith("CGP115 swap (")
    others = listed(text)
    assert "Other codes about swap" in text
    assert others
    assert "CGP115" not in others


def test_a_word_of_one_code_alone_shows_its_page(capsys):
    assert said(capsys, "multipathd").startswith("CGP114 rt-group-sched (")


@pytest.mark.parametrize(
    ("word", "near"),
    [
        ("MemryMax", "MemoryMax"),
        ("CGP6O4", "CGP604"),
        ("memory.maxx", "memory.max"),
        ("limits-in-forse", "limits-in-force"),
    ],
)
def test_an_unknown_word_gets_the_nearest(word, near):
    with pytest.raises(UsageError) as caught:
        main([word])
    assert f"did you mean {near}?" in caught.value.remedy.title


@pytest.mark.parametrize("word", ["xyzzyq", "", "q" * 100_000, "\x1b[31m", "(", ".*"])
def test_a_word_like_no_other_is_told_to_list_all(word):
    with pytest.raises(UsageError) as caught:
        main([word])
    assert "list all codes" in caught.value.remedy.title
    assert len(str(caught.value)) < 200
    assert "\x1b" not in str(caught.value)


def test_help_teaches_it(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    text = capsys.readouterr().out
    for word in ("explain CGP504", "explain MemoryMax", "explain cpu.stat", "lists every code"):
        assert word in text


def test_whole_words_are_compared():
    """`cpu` is not `cpuset`, and `memory.max` is not `memory.swap.max`."""
    cpuset = {item.code.code for item in entries_about("cpuset", entries())}
    assert {item.code.code for item in entries_about("cpuse", entries())} == set()
    assert "CGP120" in cpuset
    swap = {item.code.code for item in entries_about("MemorySwapMax", entries())}
    assert "CGP405" not in swap
    assert property_of("swap.max") is None
    assert property_of("") is None
    assert nearest_word("", entries()) == ""
