"""Values of systemd.exec(5), systemd.service(5) and of limits per device: what systemd takes, and what it does not."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cgroup_preflight.config.properties import BY_NAME, PROPERTIES, Role
from cgroup_preflight.core.quantities import QuantityError, Size, parse_size, says
from cgroup_preflight.core.unit_values import CAPABILITIES, DeviceLimit, device_limit

GOOD = {
    "Type": "simple|exec|forking|oneshot|notify|notify-reload|idle",
    "User": "shop|_apt|www-data|Debian-exim|a|1000|0|4294967294|user_1",
    "Group": "shop|65534|adm",
    "WorkingDirectory": "/|/var/lib/shop|~|-/var/lib/shop|-~|/opt/shop@2/x+y",
    "EnvironmentFile": "/etc/default/shop|-/etc/default/shop|/etc/shop/*.env|-/etc/shop/[ab]?.env",
    "StateDirectory": "shop|shop/data|shop shop/a|a.b_c@d-e",
    "RuntimeDirectory": "shop|shop a b",
    "CacheDirectory": "shop",
    "LogsDirectory": "shop",
    "ConfigurationDirectory": "shop",
    "AmbientCapabilities": "CAP_NET_BIND_SERVICE|CAP_NET_RAW CAP_NET_ADMIN|cap_chown|~CAP_SYS_ADMIN|CAP_CHECKPOINT_RESTORE",
    "LimitNOFILE": "1024|65536|infinity|1024:65536|1024:infinity|0|infinity:infinity|18446744073709551:infinity",
    "SuccessExitStatus": "143|0|255|SIGTERM|143 SIGKILL|TEMPFAIL 250 SIGUSR1|DATAERR",
    "OOMPolicy": "continue|stop|kill",
    "ManagedOOMSwap": "auto|kill",
    "ManagedOOMMemoryPressureLimit": "60%|0%|100%|33.33%",
    "MemoryZSwapWriteback": "yes|no|true|off|1|0",
    "AllowedMemoryNodes": "0|0-3|0,2|0 2",
    "ConcurrencyHardMax": "1|8|infinity",
    "ConcurrencySoftMax": "1|100",
    "IOReadBandwidthMax": "/dev/sda 5M|/dev/disk/by-path/pci-0000:00:1f.2-scsi-0:0:0:0 5M|/var 1.5G|/ infinity|/dev/sda   1000",
    "IOWriteBandwidthMax": "/dev/nvme0n1 10M|/home 1T",
    "IOReadIOPSMax": "/dev/sda 1K|/dev/sda 1",
    "IOWriteIOPSMax": "/dev/sda 1K|/dev/sda infinity",
    "StartupCPUWeight": "1|10000|idle",
    "StartupIOWeight": "1|10000",
    "StartupAllowedCPUs": "0-1",
    "StartupAllowedMemoryNodes": "0",
    "StartupMemoryLow": "0|64M|50%|infinity",
    "StartupMemoryHigh": "64M|infinity",
    "StartupMemoryMax": "64M|infinity",
    "StartupMemorySwapMax": "0|64M",
    "StartupMemoryZSwapMax": "0|64M",
}
BAD = {
    "Type": "dbus|Notify|fork|exec notify|simple;",
    "User": "1shop|shop.x|a b|65535|4294967295|4294967296|007|%u|shop:shop|-x|ürgen|" + "a" * 32,
    "Group": "a/b|$x|99999999999999999999",
    "WorkingDirectory": "var/lib|./x|/a/../b|/a/%n|/a b|/a\\|~shop|-|'/a'|--/a|/a$x",
    "EnvironmentFile": "etc/x|~|/etc/%i.env|/a/../b|--/etc/x|/a b|-",
    "StateDirectory": "/var/lib/shop|../x|shop/../x|.|shop:link|private|private/x|a//b|'shop'|%N|shop/|a\\b",
    "RuntimeDirectory": "/run/shop",
    "CacheDirectory": "..",
    "LogsDirectory": "/x",
    "ConfigurationDirectory": "$x",
    "AmbientCapabilities": "NET_BIND_SERVICE|CAP_NOTHING|CAP_NET_RAW,CAP_CHOWN|all|CAP_|~~CAP_CHOWN",
    "LimitNOFILE": "unlimited|-1|64K|010|1:2:3|65536:1024|infinity:1|:|1:|:1|1e3|99999999999999999999|0x10",
    "SuccessExitStatus": "256|-1|TERM|SIGTERM,SIGKILL|0x1|01|sigterm|EX_TEMPFAIL|1-3",
    "OOMPolicy": "no|Kill|stop kill",
    "ManagedOOMSwap": "yes",
    "ManagedOOMMemoryPressureLimit": "60|101%|infinity|0.6|1.234%",
    "MemoryZSwapWriteback": "maybe|2|Yes!",
    "AllowedMemoryNodes": "all|3-1|a",
    "ConcurrencyHardMax": "0|-1|1.5|max|08",
    "ConcurrencySoftMax": "0|50%",
    "IOReadBandwidthMax": "5M|/dev/sda|sda 5M|/dev/sda 5MB|/dev/sda 0|/dev/sda -1|/dev/sda 5M 6M|/dev/sda 50%|/dev/%i 5M|/a/../b 1M",
    "IOWriteBandwidthMax": "/dev/sda 5m|'/dev/sda' 5M",
    "IOReadIOPSMax": "/dev/sda max|8:0 1K",
    "IOWriteIOPSMax": "/dev/sda 0",
    "StartupCPUWeight": "0|10001",
    "StartupIOWeight": "idle|0",
    "StartupAllowedCPUs": "all",
    "StartupAllowedMemoryNodes": "x",
    "StartupMemoryLow": "64MB",
    "StartupMemoryHigh": "0|64m",
    "StartupMemoryMax": "0",
    "StartupMemorySwapMax": "-1",
    "StartupMemoryZSwapMax": "max",
}
_OTHERS = [item.name for item in PROPERTIES if item.role is Role.START]


def _pairs(table: dict[str, str]) -> list[tuple[str, str]]:
    return [(name, text) for name, texts in table.items() for text in texts.split("|")]


@pytest.mark.parametrize(("name", "text"), _pairs(GOOD))
def test_what_systemd_takes(name, text):
    BY_NAME[name].parse(text)


@pytest.mark.parametrize(("name", "text"), _pairs(BAD))
def test_what_systemd_ignores_or_what_would_mean_another_thing(name, text):
    with pytest.raises(QuantityError) as raised:
        BY_NAME[name].parse(text)
    assert raised.value.hint


def test_both_tables_have_every_new_property():
    assert set(GOOD) == set(BAD)
    assert set(_OTHERS) <= set(GOOD)


@pytest.mark.parametrize(
    ("name", "text", "hint"),
    [
        ("AmbientCapabilities", "net_raw", "CAP_NET_RAW"),
        ("LimitNOFILE", "unlimited", "infinity"),
        ("LimitNOFILE", "0100", "100"),
        ("LimitNOFILE", "9:8", "8:9"),
        ("SuccessExitStatus", "TERM", "SIGTERM"),
        ("Type", "dbus", "`unit`"),
        ("StateDirectory", "a:b", "`unit`"),
        ("IOReadBandwidthMax", "/dev/sda 5MB", "5M"),
    ],
)
def test_the_hint_is_the_spelling_that_works(name, text, hint):
    with pytest.raises(QuantityError) as raised:
        BY_NAME[name].parse(text)
    assert hint in raised.value.hint


@pytest.mark.parametrize(
    ("text", "amount"),
    [
        ("/dev/sda 5M", 5_000_000),
        ("/dev/sda 1.5K", 1500),
        ("/dev/sda  7", 7),
        ("/dev/sda 1G 1M", 1_001_000_000),
        ("/dev/sda infinity", None),
    ],
)
def test_amounts_of_devices_have_the_base_of_1000(text, amount):
    assert device_limit(text) == DeviceLimit(device="/dev/sda", amount=amount)


def test_sizes_have_the_base_of_1024_unless_told():
    assert parse_size("3K") == Size(3072)
    assert parse_size("3K", base=1000) == Size(3000)
    assert parse_size("1E", base=1000) == Size(10**18)


_MAX = "8:0 rbps=5000000 wbps=max riops=max wiops=120\n259:0 rbps=1 wbps=max riops=max wiops=max\n"


@pytest.mark.parametrize(
    ("expected", "text", "agrees"),
    [
        ("8:0 rbps=5000000", _MAX, True),
        ("8:0 wiops=120", _MAX, True),
        ("259:0 rbps=1", _MAX, True),
        ("8:0 rbps=max", _MAX, False),
        ("8:0 wbps=max", _MAX, True),
        ("8:0 rbps=500000", _MAX, False),
        ("259:0 wiops=120", _MAX, False),
        ("8:16 rbps=1", _MAX, False),
        ("8:16 rbps=max", _MAX, True),
        ("8:0 rbps=1", "", False),
        ("/dev/sdz rbps=1", _MAX, False),
        ("8 rbps=5000000", _MAX, False),
    ],
)
def test_the_line_of_a_device(expected, text, agrees):
    assert says("io.max", expected, text) is agrees


@given(st.integers(1, 10**15), st.sampled_from(["rbps", "wbps", "riops", "wiops"]), st.integers(1, 10**15))
def test_only_the_same_amount_agrees(amount, word, other):
    line = f"8:0 {word}={amount} x=max\n"
    assert says("io.max", f"8:0 {word}={other}", line) is (amount == other)


@given(st.sampled_from(_OTHERS), st.text(max_size=30) | st.text("aA1/-~ \n\t\u2003.:%", max_size=12))
def test_what_is_taken_cannot_leave_its_line(name, text):
    """No text that a parser takes has a newline, a specifier, a quote or a backslash."""
    try:
        value = BY_NAME[name].parse(text)
    except QuantityError:
        return
    assert not set(str(value)) & set("\n\t\u2003\r\0%\"'\\$;#")


@given(st.lists(st.sampled_from(sorted(CAPABILITIES)), min_size=1).map(lambda names: [f"CAP_{name}" for name in names]))
def test_every_list_of_capabilities_is_taken(names):
    assert BY_NAME["AmbientCapabilities"].parse(" ".join(names)) == " ".join(names)


@given(st.integers(0, 255).map(str), st.integers(256, 10**9).map(str))
def test_exit_statuses_have_eight_bits(inside, outside):
    assert BY_NAME["SuccessExitStatus"].parse(inside) == inside
    with pytest.raises(QuantityError):
        BY_NAME["SuccessExitStatus"].parse(f"{inside} {outside}")
