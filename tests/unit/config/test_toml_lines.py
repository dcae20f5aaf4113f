"""Every key that `tomllib` finds stands on the line that `locate` says."""

import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cgroup_preflight.config.tables import Mistakes
from cgroup_preflight.config.toml_lines import locate
from tests.unit.config.documents import documents


def _paths(node, path=()):
    """Every path of a document, the keys of inline tables and of tables in arrays included."""
    if isinstance(node, dict):
        for key, value in node.items():
            yield (*path, key)
            yield from _paths(value, (*path, key))
    elif isinstance(node, list):
        for item in node:
            yield from _paths(item, path)


def _nearest(first, path):
    return next(first[path[:end]] for end in range(len(path), 0, -1) if path[:end] in first)


@given(documents())
def test_every_key_has_its_line(document):
    tables = tomllib.loads(document.text)
    mistakes = Mistakes("f.toml", locate(document.text))
    for path in _paths(tables):
        assert mistakes.at(path).line == _nearest(document.first, path), (path, document.text)


@given(documents())
def test_nothing_is_located_that_is_not_there(document):
    there = set(_paths(tomllib.loads(document.text)))
    for path, line in locate(document.text).items():
        assert path in there
        assert line == document.first[path]


@given(st.text(alphabet="ab.=[]{}\"'#\n \\,1", max_size=30))
def test_any_text_that_is_toml_is_located_without_error(text):
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return
    located = locate(text)
    lines = text.count("\n") + 1
    assert all(1 <= line <= lines for line in located.values())
    assert set(tables) <= {path[0] for path in located}


@pytest.mark.parametrize(
    ("text", "path", "line"),
    [
        ("a = 1", ("a",), 1),
        ("\n\n[a]\n\n  b = 2", ("a", "b"), 5),
        ("[a.b]\nc=1\n[a]\nd=1", ("a",), 1),
        ("[a.b]\nc=1\n[a]\nd=1", ("a", "d"), 4),
        ('["a.b"]\nc=1', ("a.b", "c"), 2),
        ("['a]b']\nc=1", ("a]b", "c"), 2),
        ('"a=b" = 1', ("a=b",), 1),
        ('x = """\n[a]\ny = 1\n"""\nz = 1', ("z",), 5),
        ("x = '''\n'''\nz = 1", ("z",), 3),
        ('x = """a"""""\nz = 1', ("z",), 2),
        ("x = [\n1, # ]\n2\n]\nz = 1", ("z",), 5),
        ("# [a]\nb = 1 # c = 2\nd = 1", ("d",), 3),
        ("[[a]]\nb=1\n[[a]]\nb=2\nc=3", ("a", "b"), 2),
        ("[[a]]\nb=1\n[[a]]\nb=2\nc=3", ("a", "c"), 5),
        ("a.b.c = 1\na.b.d = 2", ("a", "b", "d"), 2),
        ("é = 1".replace("é", '"é"'), ("é",), 1),
        (
            "[slices.api]\nMemoryMax = '1G'\n\n[services.a]\nbinary='x'\n  [services.a.smoke]\n  ready = 'exit'",
            ("services", "a", "smoke", "ready"),
            7,
        ),
    ],
)
def test_examples(text, path, line):
    tomllib.loads(text)
    assert locate(text)[path] == line


def test_a_deep_key_costs_no_more_than_its_length():
    """`a.a.a. ... = 1`, 6 KB: a prefix for each level would be a few megabytes, and gigabytes for 100 KB."""
    located = locate("a." * 3000 + "a = 1\n")
    assert sum(len(path) for path in located) < 30_000


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    "text",
    [
        "".join(f"key{number} = 1\n" for number in range(20_000)),
        "x = [\n" + "1,\n" * 100_000 + "]\n",
        'x = """' + "\n" * 200_000 + '"""\n',
        "# comment ' \" [\n" * 50_000,
        "x = '" + "[" * 200_000 + "'\n",
        'x = "' + "\\\\" * 100_000 + '"\n',
        "".join(f"[a.b{number}]\n" for number in range(10_000)),
        "[" + '"' + "]" * 100_000 + '"' + "]\n",
        "x = [" + "'a', " * 50_000 + "]\n",
        "\n" * 300_000,
    ],
    ids=["keys", "array", "long string", "comments", "brackets", "escapes", "tables", "header", "strings", "blank"],
)
def test_large_documents_are_located_in_time(text):
    assert locate(text) or not tomllib.loads(text)
