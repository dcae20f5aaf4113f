"""Version specifiers: plain comparisons as `packaging` judges them, and everything else by it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.specifiers import SpecifierSet

from cgroup_preflight.core import versions

VERSIONS = st.lists(st.integers(0, 300), min_size=1, max_size=3).map(lambda parts: ".".join(map(str, parts)))
PLAIN = st.lists(
    st.tuples(st.sampled_from(["==", "!=", "<=", ">=", "<", ">"]), VERSIONS).map("".join), min_size=1, max_size=3
)


@given(PLAIN.map(",".join), VERSIONS)
def test_numbers_are_compared_as_packaging_compares_them(spec: str, version: str) -> None:
    assert all(one.contains(version) for one in versions.comparisons(spec)) is SpecifierSet(spec).contains(version)
    assert SpecifierSet(versions.canonical(spec)) == SpecifierSet(spec)


@pytest.mark.parametrize(
    ("spec", "version", "found"),
    [
        (">=249", "252.39", True), (">=249", "248", False), ("==252", "252.39", False), ("==252", "252.0", True),
        (">252", "252.39", True), ("==252.*", "252.39", True), ("==252.*", "253", False), ("~=252.1", "252.39", True),
        (">= 249 , <258", "255", True), ("", "1", True),
    ],
)  # fmt: skip
def test_what_satisfies(spec: str, version: str, found: bool) -> None:
    assert all(one.contains(version) for one in versions.comparisons(spec)) is found


@pytest.mark.parametrize("text", ["249", ">=", ">=a", "=>249", ">=249,,x", ">=2\u0664", ">=249 <258"])
def test_what_is_no_specifier(text: str) -> None:
    with pytest.raises(ValueError, match=r"(?s)."):
        versions.comparisons(text)


def test_each_comparison_tells_its_version() -> None:
    assert [one.version for one in versions.comparisons(">=249,<258.1")] == ["249", "258.1"]
