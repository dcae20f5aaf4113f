"""Globs: the same paths on every Python, compared with a definition that is as short as it is slow."""

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from cgroup_preflight.core.globs import matches, parse
from cgroup_preflight.core.quantities import QuantityError

NAMES = st.text("ab.-]*", min_size=1, max_size=4).filter(lambda name: name not in (".", ".."))
PIECES = st.sampled_from(["a", "b", ".", "*", "?", "[ab]", "[!a]", "[a-b]", "[]a]", "[", "]", "!", "-"])
PARTS = st.one_of(
    st.lists(PIECES, min_size=1, max_size=5).map("".join).filter(lambda part: "**" not in part and part not in (".", "..")),
    st.just("**"),
)  # fmt: skip
GLOBS = st.lists(PARTS, min_size=1, max_size=4).map("/".join)
PATHS = st.lists(NAMES, min_size=1, max_size=4).map("/".join)


def slow(parts, names):
    """Whether the parts of a glob match the names of a path; `**` is no folder, or one and then the same again."""
    if not parts:
        return not names
    if parts[0] == "**":
        if len(parts) == 1:
            return bool(names)
        return slow(parts[1:], names) or (bool(names) and slow(parts, names[1:]))
    return (
        bool(names)
        and re.fullmatch(expression(parts[0]), names[0], re.DOTALL) is not None
        and slow(parts[1:], names[1:])
    )


def expression(part):
    """One part as a regular expression, set by set."""
    text, position = "", 0
    while position < len(part):
        found = re.compile(r"\[(!?)(\]?[^\]]*)\]").match(part, position)
        if found and found[2]:
            inside = re.sub(r"([\\\[\]^!&~|])", r"\\\1", found[2])
            text += f"[{'^' if found[1] else ''}{inside}]"
            position = found.end()
            continue
        text += {"*": ".*", "?": "."}.get(part[position], re.escape(part[position]))
        position += 1
    return text


@given(GLOBS, PATHS)
@example("**", "a")
@example("a/**", "a")
@example("a/**", "a/b/a")
@example("**/a", "a")
@example("**/**/a", "b/a")
@example("a/**/b", "a/b")
@example("*", ".a")
@example("[!a]*", "ab")
def test_a_glob_matches_what_its_definition_says(text, path):
    assert matches(parse(text), path) is slow(text.split("/"), path.split("/"))


@pytest.mark.parametrize(
    ("text", "path", "right"),
    [
        ("static/**", "static/a.css", True),
        ("static/**", "static/deep/er/a.css", True),
        ("static/**", "static/.well-known/x", True),
        ("static/**", "static", False),
        ("static/**", "other/a.css", False),
        ("etc/*.yaml", "etc/a.yaml", True),
        ("etc/*.yaml", "etc/deep/a.yaml", False),
        ("./etc//a", "etc/a", True),
        ("*.py", "a/b.py", False),
        ("**/*.py", "b.py", True),
        ("**/*.py", "a/b.py", True),
        ("a[", "a[", True),
        ("a[]]", "a]", True),
        ("[a-c]", "b", True),
        ("[a-]", "-", True),
        ("[!a]", "/", False),
        ("{a,b}", "a", False),
        ("{a,b}", "{a,b}", True),
        ("A", "a", False),
    ],
)
def test_examples(text, path, right):
    assert matches(parse(text), path) is right


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("~/x", "relative"),
        ("~", "relative"),
        ("~user/x", "relative"),
        ("a**", "stand alone" and "* within a name"),
        ("**.py", "* within a name"),
        ("", "relative"),
        (".", "relative"),
        ("a\nb", "relative"),
    ],
)
def test_what_is_no_glob_is_refused_with_a_hint(text, hint):
    with pytest.raises(QuantityError) as caught:
        parse(text)
    assert hint in caught.value.hint


@pytest.mark.timeout(20)
def test_a_hostile_glob_ends_in_time():
    assert not matches(parse("*a" * 1000 + "b"), "a" * 4000)
    assert not matches(parse("/".join(["**", "a"] * 200 + ["b"])), "/".join("a" * 400))


@pytest.mark.parametrize(
    ("glob", "yes", "no"),
    [("[!a]", "b", "a"), ("[!]a]", "b", "]"), ("[!]a]", "!", "a"), ("[]a]", "]", "b"), ("[a!]", "!", "b")],
)
def test_a_bracket_right_after_the_beginning_of_a_set_is_a_character_of_it(glob, yes, no):
    made = parse(glob)
    assert (matches(made, yes), matches(made, no)) == (True, False)
