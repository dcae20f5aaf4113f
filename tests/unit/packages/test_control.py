"""Control files, relations and versions as dpkg reads them; dpkg itself says which of two versions is newer."""

import itertools
import shutil
import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cgroup_preflight.packages.control import Relation, compare, installed, paragraphs, relations
from cgroup_preflight.packages.dependencies import conflicts, unmet

#: From older to newer (deb-version(7), Debian policy 5.6.12).
ORDERED = ("1.0~~", "1.0~~a", "1.0~", "1.0~rc1-1", "1.0", "1.0-1", "1.0-1+b1", "1.0-1.1", "1.0a", "1.0+dfsg-1", "1.0.1", "1.2", "1.10",
           "2.0~beta", "2.0", "1:0.1", "1:0.1-1")  # fmt: skip
STATUS = """Package: libc6
Status: install ok installed
Architecture: amd64
Version: 2.36-9
Provides: libc6-virtual (= 5), plain

Package: gone
Status: deinstall ok config-files
Version: 1

Package: mail
Status: install ok installed
Version: 3
"""


def system():
    return installed(paragraphs(STATUS))


@pytest.mark.parametrize(("older", "newer"), list(itertools.pairwise(ORDERED)))
def test_a_newer_version_is_newer(older, newer):
    assert (compare(older, newer), compare(newer, older), compare(older, older)) == (-1, 1, 0)


_VERSION = st.from_regex(r"(?:[0-2]:)?[0-9][0-9a-c.+~]{0,6}(?:-[0-9a-c+.~]{1,3})?", fullmatch=True)


@pytest.mark.starts_processes
@pytest.mark.skipif(not shutil.which("dpkg"), reason="needs dpkg, which says what is right")
@settings(max_examples=40, deadline=None)
@given(one=_VERSION, other=_VERSION)
def test_versions_have_the_order_of_dpkg(one, other):
    sign = {-1: "lt", 0: "eq", 1: "gt"}[compare(one, other)]
    assert subprocess.run(("dpkg", "--compare-versions", one, sign, other), check=False).returncode == 0


@given(st.text(alphabet="ab1.~+-:|,()<>=[] \n", max_size=40))
def test_any_text_is_read(text):
    compare(text, "1.0")
    relations(text)
    list(paragraphs(text))


def test_relations_are_read_with_their_versions_and_without_architectures():
    found = relations("libc6 (>= 2.36), a:any | b (<< 1) [amd64], python3 <!nocheck>, ???")
    assert [" | ".join(map(str, group)) for group in found] == ["libc6 (>= 2.36)", "a | b (<< 1)", "python3"]


def test_a_folded_field_is_one_line():
    (fields,) = paragraphs("Package: x\nDepends: a,\n b,\n c\n")
    assert fields == {"package": "x", "depends": "a, b, c"}


@pytest.mark.parametrize(
    ("sign", "accepted"),
    [("<<", ("1",)), ("<=", ("1", "2")), ("<", ("1", "2")), ("=", ("2",)), (">=", ("2", "3")), (">", ("2", "3")), (">>", ("3",)),
     ("", ("1", "2", "3"))],
)  # fmt: skip
def test_a_relation_accepts_versions(sign, accepted):
    relation = Relation(name="x", sign=sign, version="2" if sign else "")
    assert tuple(version for version in ("1", "2", "3") if relation.accepts(version)) == accepted


@pytest.mark.parametrize(
    ("text", "missing"),
    [
        ("libc6 (>= 2.30), mail", []),
        ("libc6 (>= 3)", ["libc6 (>= 3)"]),
        ("gone", ["gone"]),
        ("absent | mail", []),
        ("plain, libc6-virtual (>= 4)", []),
        ("libc6-virtual (>= 6), plain (>= 1)", ["libc6-virtual (>= 6)", "plain (>= 1)"]),
        ("sibling (>= 2)", []),
        ("sibling (>= 9)", ["sibling (>= 9)"]),
    ],
)
def test_all_dependencies_that_nothing_fulfils_are_named(text, missing):
    packages = [{"package": "x", "version": "1", "depends": text}, {"package": "sibling", "version": "2"}]
    assert [item.text for item in unmet(packages, system())] == missing


def test_a_dependency_before_the_installation_counts_and_two_that_need_the_same_name_it_once():
    packages = [{"package": "x", "pre-depends": "one"}, {"package": "y", "depends": "one, two | three"}]
    found = unmet(packages, system())
    assert [(item.needed_by, item.text, item.package) for item in found] == [
        ("x", "one", "one"),
        ("y", "two | three", "two"),
    ]


@pytest.mark.parametrize(
    ("fields", "found"),
    [
        ({"conflicts": "other"}, ["x cannot be installed together with other"]),
        ({"breaks": "other (<< 2)"}, ["x cannot be installed together with other (<< 2)"]),
        ({"breaks": "other (<< 1)"}, []),
        ({"conflicts": "mail (>= 3)"}, ["x cannot be installed together with mail (>= 3)"]),
        ({"conflicts": "x, agent", "provides": "agent"}, []),
    ],
)
def test_packages_that_exclude_each_other_are_named(fields, found):
    packages = [{"package": "x", "version": "1", **fields}, {"package": "other", "version": "1.5"}]
    assert list(conflicts(packages, system())) == found
