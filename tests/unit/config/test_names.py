"""Names, readiness tests, spans and version specifiers of the config."""

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from cgroup_preflight.config.keys import NAME_MAX, SECTIONS, parse_name, parse_prefix, parse_ready, parse_slice_name
from cgroup_preflight.config.model import ReadyKind, ReadyTest
from cgroup_preflight.core.quantities import QuantityError

WORDS = st.text(alphabet="abcXYZ019_.", min_size=1, max_size=12).filter(lambda word: ".." not in word)
# systemd.unit(5): these may stand in a unit name without an escape, `:` and `\\` aside.
UNIT_NAME = re.compile(r"[A-Za-z0-9:_.\\-]+")


@given(
    st.lists(WORDS, min_size=1, max_size=5).map("-".join).filter(lambda name: name[0].isalnum() and len(name) <= 100)
)
def test_names_of_units_are_taken_as_they_are(name):
    if ".." not in name:
        assert parse_name(name) == name


@given(st.one_of(st.text(), st.text(alphabet="ab-._/%\n@:\\ é", max_size=12)))
def test_a_name_that_is_taken_is_a_unit_name_and_a_file_name(name):
    try:
        parse_name(name)
    except QuantityError as error:
        assert "single '-'" in error.hint
    else:
        assert UNIT_NAME.fullmatch(name)
        assert len(name) <= NAME_MAX
        assert not set(name) & set("/%\n\\@: ")
        assert ".." not in name
        assert name not in ("", ".", "-")
        assert "--" not in name
        assert not name.startswith("-")
        assert not name.endswith("-"), "a-.slice and a--b.slice do not load (systemd.slice(5))"


@pytest.mark.parametrize(
    "name",
    [
        "",
        "a\nb",
        "\n",
        "a\n",
        "a/b",
        "/",
        "..",
        ".",
        "a..b",
        "../a",
        "100%",
        "%i",
        "%%",
        "a b",
        "a\tb",
        "-",
        "-a",
        "a-",
        "a--b",
        "@",
        "a@b",
        "a:b",
        "a\\x2db",
        "é",
        "a\x00b",
        "a\x1b[31m",
        "x" * 101,
        "x" * 300,
        "\u202ea",
        "a;b",
        "$(x)",
        "'",
        '"',
        ".a",
    ],
)
def test_names_refused(name):
    with pytest.raises(QuantityError):
        parse_name(name)


@pytest.mark.parametrize("name", ["api", "user-api", "a.b", "A_1", "x" * 100, "0", "api-v1.2"])
def test_names_taken(name):
    assert parse_name(name) == name


@pytest.mark.parametrize(
    "name", ["system", "user", "machine", "init", "user-1000", "api.slice", "system-api", "machine-x"]
)
def test_slices_of_systemd_are_refused(name):
    """`system-api.slice` lives in system.slice (systemd.slice(5)), so the plan would write that file too."""
    with pytest.raises(QuantityError):
        parse_slice_name(name)


@pytest.mark.parametrize("name", ["api", "systemd", "users", "my-system", "api-user"])
def test_slices_of_ones_own(name):
    assert parse_slice_name(name) == name


@pytest.mark.parametrize(
    ("text", "ready"),
    [
        ("exit", ReadyTest(kind=ReadyKind.EXIT)),
        ("http://127.0.0.1:8080/healthz", ReadyTest(kind=ReadyKind.HTTP, target="http://127.0.0.1:8080/healthz")),
        ("https://localhost/?a=b", ReadyTest(kind=ReadyKind.HTTP, target="https://localhost/?a=b")),
        ("http://[::1]:80", ReadyTest(kind=ReadyKind.HTTP, target="http://[::1]:80")),
        ("tcp://127.0.0.1:80", ReadyTest(kind=ReadyKind.TCP, target="127.0.0.1:80")),
        ("tcp://[::1]:8080", ReadyTest(kind=ReadyKind.TCP, target="[::1]:8080")),
        ("grpc://127.0.0.1:50051", ReadyTest(kind=ReadyKind.GRPC, target="grpc://127.0.0.1:50051")),
        ("grpc://[::1]:1/shop.v1.Orders", ReadyTest(kind=ReadyKind.GRPC, target="grpc://[::1]:1/shop.v1.Orders")),
        ("unix:/run/x.sock", ReadyTest(kind=ReadyKind.UNIX, target="/run/x.sock")),
        ("unix:@x", ReadyTest(kind=ReadyKind.UNIX, target="@x")),
        ("unix:/" + 106 * "x", ReadyTest(kind=ReadyKind.UNIX, target="/" + 106 * "x")),
        ("log:listening on .*", ReadyTest(kind=ReadyKind.LOG, target="listening on .*")),
    ],
)
def test_readiness_tests(text, ready):
    assert parse_ready(text) == ready


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Exit",
        "8080",
        ":8080",
        "http://",
        "http:///x",
        "ftp://127.0.0.1/",
        "file:///etc/passwd",
        "tcp://127.0.0.1",
        "tcp://:80",
        "tcp://127.0.0.1:port",
        "tcp://127.0.0.1:80/x",
        "http://user@127.0.0.1/",
        "http://a:b@127.0.0.1/",
        "http://127.0.0.1\\@evil/",
        "http://127.0.0.1 /",
        "http://127.0.0.1/a b",
        "http://127.0.0.1/\n",
        "http://127.0.0.1\n/",
        "log:(",
        "log:[",
        "log:*",
        "log:(?P<a>",
        "http://127.0.0.1/é",
        "gopher://127.0.0.1:80/",
        "grpc://127.0.0.1",
        "grpc://127.0.0.1:1/a b",
        "grpc://127.0.0.1:1/a?b",
        "grpc://a@127.0.0.1:1/",
        "grpcs://127.0.0.1:1",
        "unix:///run/x",
        "unix:run/x",
        "unix:/",
        "unix:@",
        "unix:/a b",
        "unix:/a\n",
        "unix:/" + 107 * "x",
    ],
)
def test_readiness_tests_refused(text):
    with pytest.raises(QuantityError):
        parse_ready(text)


@given(st.one_of(st.text(), st.text(alphabet="(a+)*[]{}|\\.?^$1,", max_size=30)))
@example("[[]")
@example("(")
@example("a{9999999999}")
def test_any_pattern_is_taken_or_refused(pattern):
    """Refused is what `re` refuses or warns of; a warning is an error in these tests, and `re` gives it once only."""
    re.purge()
    try:
        assert parse_ready(f"log:{pattern}").target == pattern
    except QuantityError:
        re.purge()
        with pytest.raises((re.error, RecursionError, OverflowError, FutureWarning, DeprecationWarning)):
            re.compile(pattern)


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    "pattern",
    [
        "(" * 4000,
        "(" * 2000 + ")" * 2000,
        "((((a{1,999}){1,999}){1,999}){1,999})",
        "a{99999999999}",
        "(?:a?){999}" * 100,
    ],
)
def test_patterns_are_compiled_in_time(pattern):
    try:
        parse_ready(f"log:{pattern}")
    except QuantityError:
        pass


def test_a_pattern_that_python_warns_about_is_a_matter_of_the_config():
    """`[[a` is a FutureWarning of `re`: a line of Python source on stderr helps nobody (a warning is an error here)."""
    try:
        parse_ready("log:[[a]x]")
    except QuantityError:
        pass


def _key(section, name):
    return next(key for key in SECTIONS[section].keys if key.name == name)


@pytest.mark.parametrize("text", [">=249", ">=249,<258", "", "==252", "~=5.15", "!=6.1"])
def test_version_specifiers(text):
    _key("require", "systemd").parse(text)


@pytest.mark.parametrize("text", ["249", ">=", "latest", "=> 249", ">=249;", "^5", ">=249 <258"])
def test_version_specifiers_refused(text):
    with pytest.raises(QuantityError) as caught:
        _key("require", "systemd").parse(text)
    assert ">=249" in caught.value.hint


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("duration", "2h"),
        ("duration", "3601"),
        ("start_timeout", "0"),
        ("stop_timeout", "99ms"),
        ("start_timeout", "1d"),
        ("duration", "-1s"),
        ("duration", "infinity"),
    ],
)
def test_spans_of_a_smoke_run_are_bounded(name, text):
    with pytest.raises(QuantityError):
        _key("services.*.smoke", name).parse(text)


def test_spans_of_a_smoke_run():
    assert _key("services.*.smoke", "duration").parse("0") == 0.0
    assert _key("services.*.smoke", "duration").parse("1h") == 3600.0
    assert _key("services.*.smoke", "stop_timeout").parse("100ms") == 0.1


@pytest.mark.parametrize(("text", "prefix"), [("a//./b", "a/b"), ("shop-1.2/", "shop-1.2"), (".", ""), ("./a", "a")])
def test_a_prefix_is_written_in_one_way(text, prefix):
    assert parse_prefix(text) == prefix


@pytest.mark.parametrize("text", ["/a", "../a", "a/..", "a\x7f", "a b", "a\n", "é"])
def test_prefixes_refused(text):
    with pytest.raises(QuantityError) as caught:
        parse_prefix(text)
    assert "shop-1.2" in caught.value.hint


@pytest.mark.parametrize("text", ["~", "!", "a~b"])
def test_a_prefix_may_have_any_other_printable_character(text):
    assert parse_prefix(text) == text
