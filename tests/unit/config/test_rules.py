"""Rules that need more than one key: declared slices, limits that are too small, order of limits, addresses."""

import ipaddress
from urllib.parse import urlsplit

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.unit.core.making import mistakes_of, names


def _ready(address, smoke=""):
    """Mistakes of a config whose service shows readiness at `address`."""
    return mistakes_of(f"{smoke}\n[services.a]\nbinary = 'x'\n[services.a.smoke]\nready = '{address}'\n")


@pytest.mark.parametrize(
    "address",
    [
        "http://127.0.0.1/",
        "http://127.0.0.1:8080/healthz?a=b@c",
        "http://127.255.255.254:1/",
        "http://[::1]:80",
        "http://[::1]/",
        "http://localhost:8080/",
        "http://LOCALHOST/",
        "https://127.0.0.1:443/",
        "tcp://127.0.0.1:1",
        "tcp://[::1]:65535",
        "tcp://localhost:80",
        "log:http://10.0.0.1/",
        "exit",
    ],
)
def test_this_machine_is_allowed(address):
    assert _ready(address) == ()


@pytest.mark.parametrize(
    "address",
    [
        "http://10.0.0.1/",
        "http://169.254.169.254/latest/meta-data",
        "http://0.0.0.0/",
        "http://[::]/",
        "http://evil.com/",
        "http://localhost.evil.com/",
        "http://localhost./",
        "http://127.0.0.1.evil.com/",
        "http://127.0.0.1.nip.io/",
        "http://127.0.0.1./",
        "http://127.1/",
        "http://127.0.1/",
        "http://2130706433/",
        "http://017700000001/",
        "http://0177.0.0.1/",
        "http://0x7f.0.0.1/",
        "http://0x7f000001/",
        "http://127.0.0.01/",
        "http://[::ffff:10.0.0.1]/",
        "http://[::127.0.0.1]/",
        "http://[fe80::1]/",
        "http://１２７.0.0.1/",
        "http://localhost。evil.com/",
        "http://ⓛocalhost/",
        "http://127。0。0。1/",
        "http://%31%32%37.0.0.1/",
        "http://127.0.0.1@evil.com/",
        "http://evil.com@127.0.0.1/",
        "http://user:pass@127.0.0.1/",
        "http://@127.0.0.1/",
        "http://127.0.0.1:80@evil.com/",
        "http://127.0.0.1\\\\@evil.com/",
        "http://evil.com\\\\@127.0.0.1/",
        "http:\\\\\\\\127.0.0.1/",
        "http://127.0.0.1#@evil.com/",
        "http://evil.com#127.0.0.1/",
        "http:/127.0.0.1/",
        "http:127.0.0.1/",
        "//127.0.0.1/",
        "http://127.0.0.1,evil.com/",
        "http://127.0.0.1;evil.com/",
        "http://[::1].evil.com/",
        "http://[::1]evil.com/",
        "http://[::1",
        "http://::1/",
        "http://127.0.0.1:99999/",
        "http://127.0.0.1:0/",
        "http://127.0.0.1:-1/",
        "http://127.0.0.1:80:80/",
        "http://127.0.0.1:８０/",
        "http://127.0.0.1:8o/",
        "http://%6c%6f%63%61%6c%68%6f%73%74/",
        "tcp://10.0.0.1:22",
        "tcp://evil.com:80",
        "tcp://127.0.0.1:0",
        "tcp://127.0.0.1:99999",
        "tcp://0.0.0.0:80",
        "tcp://[::ffff:10.0.0.1]:80",
        "tcp://127.1:80",
        "tcp://2130706433:80",
        "tcp://[::]:80",
        "tcp://[1]:80",
    ],
)
def test_other_machines_are_refused(address):
    found = mistakes_of(f'[services.a]\nbinary = "x"\n[services.a.smoke]\nready = "{address}"\n')
    assert found
    assert all(item.location.line == 4 for item in found)
    assert all(item.name in ("bad-value", "bad-address") for item in found)
    assert "127.0.0.1" in found[0].remedies[0].title or "port" in found[0].remedies[0].title


_HOSTS = st.text(alphabet="127.0:localhst[]@\\/?#%-xe。１", min_size=1, max_size=16)


@example("127.0.0.1", "http://", "?@evil.com\\")
@example("[::1]", "http://", "/\\@evil.com")
@example("localhost", "https://", ":80/#@evil.com")
@example("127.0.0.1", "tcp://", ":80")
@given(
    _HOSTS, st.sampled_from(["http://", "https://", "tcp://"]), st.sampled_from(["", "/", ":80/", ":80", "/@x", "?x"])
)
def test_what_is_allowed_is_loopback_for_every_reader(host, scheme, tail):
    """The standard library and the HTTP client must see the same, loopback, host."""
    from urllib3.util import parse_url

    address = f"{scheme}{host}{tail}"
    if "'" in address or _ready(address):
        return
    for seen in (urlsplit(address).hostname, (parse_url(address).host or "").strip("[]")):
        assert seen == "localhost" or ipaddress.ip_address(seen).is_loopback


def test_remote_addresses_where_the_config_allows_them():
    allowed = "[smoke]\nallow_remote_ready = true"
    assert _ready("http://10.0.0.1:8080/", allowed) == ()
    assert _ready("tcp://example.com:80", allowed) == ()
    assert names(_ready("http://10.0.0.1/", "[smoke]\nallow_remote_ready = false")) == ["bad-address"]


@pytest.mark.parametrize(
    "address",
    [
        "http://10.0.0.1:99999/",
        "http://10.0.0.1:0/",
        "http://[::1",
        "tcp://x:99999",
        "tcp://x:0",
        "http://x:8o/",
        "http://x:80:80/",
    ],
)
def test_an_impossible_address_is_refused_although_remote_ones_are_allowed(address):
    assert _ready(address, "[smoke]\nallow_remote_ready = true")


@pytest.mark.parametrize("name", ["MemoryMax", "MemoryHigh"])
@pytest.mark.parametrize("table", ["slices.a", "services.a"])
def test_limits_that_can_wedge_a_manager(name, table):
    binary = "binary = 'x'\n" if table.startswith("services") else ""

    def found(text, smoke=""):
        return mistakes_of(f"{smoke}\n[{table}]\n{binary}{name} = {text}\n")

    tiny = "[smoke]\nallow_tiny_limits = true"
    assert found("'16M'") == found("16777216") == found("'infinity'") == found("'50%'") == ()
    for text in ("16777215", "'15M'", "'1M'", "4096"):
        (item,) = found(text)
        assert item.name == "limit-too-small"
        assert "16M" in item.remedies[0].title
        assert "allow_tiny_limits" in item.remedies[0].title
        assert found(text, tiny) == ()
    for text in ("1", "4095", "'1K'"):
        for smoke in ("", tiny):
            (item,) = found(text, smoke)
            assert "page" in item.message
    (item,) = found("0")
    assert item.name == "bad-value"


def test_other_amounts_may_be_small():
    assert mistakes_of("[slices.a]\nMemorySwapMax = 0\nMemoryZSwapMax = 0\nMemoryMin = 0\nMemoryLow = 4096\n") == ()


@pytest.mark.parametrize(
    ("text", "good"),
    [
        ("1ms", True),
        ("100ms", True),
        ("1s", True),
        ("999us", False),
        ("5s", False),
        ("1001ms", False),
        ("0", False),
        ("1", True),
        ("infinity", False),
    ],
)
def test_the_period_of_a_quota_is_1ms_to_1s(text, good):
    """systemd would silently turn 5s into 1s (cgroup_cpu_adjust_period)."""
    found = mistakes_of(f"[slices.a]\nCPUQuota = '50%'\nCPUQuotaPeriodSec = '{text}'\n")
    assert not found if good else [item.location.line for item in found] == [3]


@pytest.mark.parametrize(
    ("low", "high"),
    [("MemoryMin", "MemoryLow"), ("MemoryLow", "MemoryHigh"), ("MemoryHigh", "MemoryMax"), ("MemoryMin", "MemoryMax")],
)
def test_order_of_limits(low, high):
    assert mistakes_of(f"[slices.a]\n{low} = '64M'\n{high} = '64M'\n") == ()
    (item,) = mistakes_of(f"[slices.a]\n{low} = '65M'\n{high} = '64M'\n")
    assert (item.name, item.code) == ("limits-out-of-order", "CGP210")
    assert low in item.message
    assert high in item.message


@pytest.mark.parametrize(("low", "high"), [("MemoryMin", "MemoryMax"), ("MemoryLow", "MemoryHigh")])
def test_order_of_percentages(low, high):
    assert mistakes_of(f"[slices.a]\n{low} = '10%'\n{high} = '10%'\n") == ()
    (item,) = mistakes_of(f"[slices.a]\n{low} = '90%'\n{high} = '10%'\n")
    assert (item.code, item.location.line) == ("CGP210", 2)


@pytest.mark.parametrize("name", ["MemoryMax", "MemoryHigh"])
def test_a_share_that_is_tiny_even_on_a_large_machine(name):
    assert mistakes_of(f"[slices.a]\n{name} = '0.1%'\n") == ()
    assert mistakes_of("[slices.a]\nMemoryLow = '0.01%'\n") == ()
    (item,) = mistakes_of(f"[slices.a]\n{name} = '0.01%'\n")
    assert (item.code, item.location.line) == ("CGP208", 2)
    assert "allow_tiny_limits" in item.remedies[0].title
    assert mistakes_of(f"[smoke]\nallow_tiny_limits = true\n[slices.a]\n{name} = '0.01%'\n") == ()


def test_a_share_of_tasks_that_is_none_on_a_small_machine():
    assert mistakes_of("[slices.a]\nTasksMax = '0.03%'\n") == ()
    (item,) = mistakes_of("[slices.a]\nTasksMax = '0.01%'\n")
    assert (item.code, item.location.line) == ("CGP208", 2)
    assert "no task" in item.message


def test_order_is_not_judged_between_sizes_and_percentages():
    assert mistakes_of("[slices.a]\nMemoryHigh = '90%'\nMemoryMax = '64M'\nMemoryLow = 'infinity'\n") == ()


@pytest.mark.parametrize(
    ("line", "hint"),
    [
        ("CPUQuota = '01.5'", "use 150% for 1.5 CPUs, or 1.5% of one CPU"),
        ("CPUQuota = 1.5", "use 150% for 1.5 CPUs, or 1.5% of one CPU"),
        ("CPUQuota = '064'", "use 64%"),
        ("CPUQuota = '1,000%'", "use 1000%"),
        ("CPUQuota = '150 %'", "use 150%"),
        ("CPUQuota = '0.001%'", "use at most two decimals, such as 0.01%"),
        ("MemoryMax = '50,5 %'", "use 50.5%"),
        ("MemoryMax = '00%'", "use a size above zero"),
        ("MemoryMax = 1.5", "use text in quotes, with a unit"),
        ("MemoryMax = '2,000%'", "use at most 100%, or an absolute value"),
        ("TasksMax = '00'", "use a whole number above 0, a percentage, or infinity"),
        ("TasksMax = 64.0", "use a whole number above 0, a percentage, or infinity"),
        ("TasksMax = '00%'", "use a whole number above 0, a percentage, or infinity"),
        ("CPUWeight = '00'", "use a whole number from 1 to 10000, or idle"),
        ("CPUWeight = '020000'", "use a whole number from 1 to 10000, or idle"),
    ],
)
def test_a_hint_is_not_refused_itself(line, hint):
    (item,) = mistakes_of(f"[slices.a]\n{line}\n")
    assert item.remedies[0].title == hint


_LOOSE = st.from_regex(r"0{0,2}[0-9]{1,5}([.,_ ][0-9]{1,3}){0,2} ?(%|[kKmMgG]i?[bB]?)?", fullmatch=True)


@given(st.sampled_from(["MemoryMax", "MemoryLow", "CPUQuota", "CPUWeight", "IOWeight", "TasksMax"]), _LOOSE)
@example("MemoryMax", "1,000")
@example("MemoryMax", "1,234,56")
@example("TasksMax", "5000_000")
def test_each_value_that_a_hint_proposes_is_taken(name, text):
    """Also by the rules about more than one key."""
    start = "[smoke]\nallow_tiny_limits = true\n[slices.a]\n"
    mistakes = [item for item in mistakes_of(f"{start}{name} = '{text}'\n") if item.code == "CGP204"]
    for item in mistakes:
        proposed = item.remedies[0].title.removeprefix("use ")
        if proposed[:1].isdigit() and " " not in proposed.rstrip():
            left = mistakes_of(f"{start}{name} = '{proposed}'\n")
            assert left == (), (text, proposed)


def test_an_undeclared_slice_names_the_nearest_and_what_to_add():
    (item,) = mistakes_of("[slices.worker]\n[slices.api]\n[services.a]\nbinary = 'x'\nslice = 'wroker'\n")
    assert (item.name, item.code, item.location.line) == ("undeclared-slice", "CGP206", 5)
    assert "'wroker'" in item.message
    for word in ("did you mean worker?", "[slices.wroker]", "api, worker"):
        assert word in item.remedies[0].title


def test_a_slice_that_is_implied_by_dashes_has_to_be_declared_all_the_same():
    (item,) = mistakes_of("[slices.a-b]\n[services.x]\nbinary = 'x'\nslice = 'a'\n")
    assert item.name == "undeclared-slice"
    assert mistakes_of("[slices.a-b]\n[services.x]\nbinary = 'x'\nslice = 'a-b'\n") == ()


def test_one_mistake_is_told_once():
    """A slice with a bad name is not undeclared besides; a bad value is not also too small."""
    assert names(mistakes_of("[slices.a]\nMemoryMax = '5MB'\n")) == ["bad-value"]
    assert names(mistakes_of("[services.x]\nbinary = 'x'\nslice = '../x'\n")) == ["bad-value"]


def test_a_value_on_two_lines_says_what_is_wrong_with_it_and_what_to_write():
    (item,) = mistakes_of('[slices.a]\nMemoryMax = "1G\\n2G"\n')
    assert "control characters" in item.message
    assert item.remedies[0].title == "use one value on one line"


def test_limits_out_of_order_say_which_number_to_change():
    (item,) = mistakes_of("[slices.a]\nMemoryHigh = '65M'\nMemoryMax = '64M'\n")
    assert item.remedies[0].title == "lower MemoryHigh to 64M, or raise MemoryMax to 65M"


def test_an_empty_value_says_that_the_line_can_go():
    (item,) = mistakes_of('[slices.a]\nMemoryMax = " "\n')
    assert (item.code, item.message) == ("CGP204", "MemoryMax: the value is empty")
    assert "remove the line" in item.remedies[0].title
