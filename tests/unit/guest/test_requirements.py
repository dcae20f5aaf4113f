"""Which machine a config gets, and that what has to be tested fits into it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cgroup_preflight.config.keys import DISTROS
from cgroup_preflight.config.properties import BY_NAME
from cgroup_preflight.guest.recipe import SUITES
from cgroup_preflight.guest.requirements import HostCapacity, choose_machine, requirements_of
from cgroup_preflight.guest.spec import GuestEngine
from cgroup_preflight.smoke.probe_plan import OVER, SPARE
from tests.unit.core.making import config_of

BOTH = HostCapacity(qemu=True, cpus=2, memory_mib=16_000)
ALONE = HostCapacity(qemu=False, cpus=2, memory_mib=16_000)
SERVICE = '[services.web]\nbinary = "web"\n'


def machine(text: str, host: HostCapacity = BOTH, wanted: str = "auto"):
    return choose_machine(requirements_of(config_of(text)), wanted, host)


@pytest.mark.parametrize(
    ("text", "engine", "cpus"),
    [
        (SERVICE, GuestEngine.UML, 1),
        (SERVICE + 'CPUQuota = "99%"\n', GuestEngine.UML, 1),
        (SERVICE + 'CPUQuota = "100%"\n', GuestEngine.QEMU, 2),
        (SERVICE + 'CPUQuota = "350%"\n', GuestEngine.QEMU, 4),
        (SERVICE + 'AllowedCPUs = "0-2"\n', GuestEngine.QEMU, 3),
        (SERVICE + '[slices.a]\nCPUQuota = "150%"\n', GuestEngine.QEMU, 2),
        (SERVICE + "[target]\nnetwork = true\n", GuestEngine.QEMU, 2),
        ('[require]\ncontrollers = ["cpuset"]\n' + SERVICE, GuestEngine.QEMU, 2),
    ],
)
def test_qemu_only_for_what_the_other_lacks(text, engine, cpus):
    found = machine(text)
    assert (found.engine, found.cpus) == (engine, cpus)
    assert found.gaps == ()


def test_without_qemu_a_quota_is_told_to_be_unverified():
    found = machine(SERVICE + 'CPUQuota = "150%"\n', ALONE)
    assert found.engine is GuestEngine.UML
    assert found.gaps == ("CPUQuota=150% needs more than one CPU: unverified without QEMU",)


def test_without_qemu_what_cannot_be_tried_at_all_asks_for_it():
    assert machine(SERVICE + 'AllowedCPUs = "0"\n', ALONE).engine is GuestEngine.QEMU


def test_more_cpus_than_can_be_had_is_a_consequence():
    found = machine(SERVICE + 'CPUQuota = "1200%"\n')
    assert found.cpus == 4
    assert found.gaps == ("limits that need more than 4 CPUs are unverified",)


def test_the_users_word_counts():
    assert machine(SERVICE, wanted="qemu").engine is GuestEngine.QEMU
    assert machine(SERVICE + 'CPUQuota = "150%"\n', wanted="uml").engine is GuestEngine.UML


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('CPUQuota = "100%"\n', "CPUQuota=100% needs more than one CPU"),
        ('CPUQuota = "250.5%"\n', "CPUQuota=250.5% needs more than one CPU"),
        ('AllowedCPUs = "0"\n', "AllowedCPUs needs the cpuset controller"),
        ('ManagedOOMMemoryPressure = "kill"\n', "ManagedOOM needs pressure information (PSI)"),
        ("[target]\nnetwork = true\n", "network = true needs a network device"),
        ('[slices.a]\nManagedOOMMemoryPressure = "kill"\n', "ManagedOOM needs pressure information (PSI)"),
    ],
)
def test_each_reason_is_said(text, reason):
    required = requirements_of(config_of(SERVICE + text))
    assert required.reasons == (reason,)
    assert choose_machine(required, "uml", BOTH).gaps == (f"{reason}: unverified without QEMU",)


def test_all_reasons_are_said_together():
    required = requirements_of(
        config_of(SERVICE + 'CPUQuota = "150%"\nAllowedCPUs = "0-1"\n[target]\nnetwork = true\n')
    )
    (gap,) = choose_machine(required, "uml", BOTH).gaps
    assert gap == (
        "CPUQuota=150% needs more than one CPU, AllowedCPUs needs the cpuset controller, "
        "network = true needs a network device: unverified without QEMU"
    )


@pytest.mark.parametrize("text", ['AllowedCPUs = "0"\n', "[target]\nnetwork = true\n"])
def test_what_user_mode_linux_cannot_do_at_all_takes_qemu_even_where_it_is_missing(text):
    """The missing program is then what is reported."""
    assert machine(SERVICE + text, ALONE).engine is GuestEngine.QEMU


def test_a_network_is_impossible_in_user_mode_linux():
    text = SERVICE + "[target]\nnetwork = true\n"
    what, instead = requirements_of(config_of(text)).impossible(machine(text, wanted="uml"))
    assert what == "user-mode-linux has no network, and [target] has network = true"
    assert "qemu" in instead
    assert requirements_of(config_of(text)).impossible(machine(text)) == ("", "")


def test_pressure_alone_does_not():
    text = SERVICE + 'ManagedOOMMemoryPressure = "kill"\n'
    assert machine(text, ALONE).engine is GuestEngine.UML
    assert machine(text, BOTH).engine is GuestEngine.QEMU


@pytest.mark.parametrize(
    ("quota", "host_cpus", "cpus", "short"),
    [("100%", 1, 2, False), ("399%", 1, 4, False), ("400%", 1, 4, True), ("700%", 8, 8, False), ("1599%", 64, 16, False),
     ("1600%", 64, 16, True)],
)  # fmt: skip
def test_cpus_are_those_needed_within_what_is_sensible(quota, host_cpus, cpus, short):
    found = machine(SERVICE + f'CPUQuota = "{quota}"\n', HostCapacity(qemu=True, cpus=host_cpus, memory_mib=16_000))
    assert (found.cpus, bool(found.gaps)) == (cpus, short)


#: What system and tool are given. Of 512 MiB, a booted user-mode-linux has 456 MiB available.
SYSTEM_MIB = {"uml": 128, "qemu": 256}
MIB = 1 << 20


@given(
    limits=st.lists(st.integers(16, 4000), min_size=1, max_size=4),
    name=st.sampled_from(["MemoryMax", "MemoryHigh"]),
    in_slice=st.booleans(),
    unlimited=st.integers(0, 3),
    wanted=st.sampled_from(["uml", "qemu"]),
)
def test_the_memory_is_enough_for_every_probe(limits, name, in_slice, unlimited, wanted):
    """The largest limit can be tested next to the system and services without a limit."""
    kind = "slices" if in_slice else "services"
    text = "".join(
        f'[{kind}.x{number}]\n{name} = "{limit}M"\n' + ("" if in_slice else 'binary = "x"\n')
        for number, limit in enumerate(limits)
    )
    text += "".join(f'[services.free{number}]\nbinary = "x"\n' for number in range(unlimited))
    config = config_of(text)
    free = sum(all(item.property != "MemoryMax" for item in one.settings) for one in config.services)
    found = choose_machine(requirements_of(config), wanted, HostCapacity(qemu=True, cpus=2, memory_mib=1 << 20))
    probed = max(limits) * MIB + OVER + SPARE
    needed = SYSTEM_MIB[wanted] * MIB + probed + 128 * MIB * free
    assert needed <= found.memory_mib * MIB
    # And no more than that, since a large machine takes longer to boot.
    assert found.memory_mib * MIB <= max(needed + 64 * MIB, (256 if wanted == "uml" else 512) * MIB)
    assert found.memory_mib % 32 == 0


@pytest.mark.parametrize(
    ("text", "unlimited"),
    [
        ("", 1), ('MemoryMax = "64M"\n', 0), ('MemoryMax = "50%"\n', 0), ('MemoryMax = "infinity"\n', 1),
        ('MemoryHigh = "64M"\n', 1), ("TasksMax = 9\n", 1),
    ],
)  # fmt: skip
def test_a_service_without_a_limit_of_its_own_gets_memory_too(text, unlimited):
    assert requirements_of(config_of(SERVICE + text)).unlimited == unlimited
    limited = '[services.other]\nbinary = "x"\nMemoryMax = "32M"\n'
    assert requirements_of(config_of(SERVICE + text + limited)).unlimited == unlimited


@pytest.mark.parametrize("name", ["MemoryMax", "MemoryHigh", "MemoryMin", "MemoryLow"])
def test_the_largest_amount_counts_whichever_it_is(name):
    low = '[slices.a]\nMemoryMax = "32M"\n'
    assert requirements_of(config_of(SERVICE + f'{name} = "640M"\n' + low)).memory_bytes == 640 << 20
    assert name in BY_NAME


def test_memory_nodes_need_cpuset_and_no_cpus():
    found = requirements_of(config_of(SERVICE + "AllowedMemoryNodes = '0-3'\n"))
    assert (found.cpus, found.cpuset) == (1, True)
    assert found.reasons == ("AllowedMemoryNodes needs the cpuset controller",)
    both = requirements_of(config_of(SERVICE + "AllowedMemoryNodes = 0\nStartupAllowedCPUs = '0-2'\n"))
    assert (both.cpus, both.reasons) == (3, ("AllowedCPUs needs the cpuset controller",))


def test_sizes_of_other_things_do_not_count():
    found = requirements_of(config_of(SERVICE + 'MemorySwapMax = "8G"\n'))
    assert (found.memory_bytes, found.cpus, found.cpuset, found.network) == (0, 1, False, False)


@pytest.mark.parametrize(
    ("wanted", "host_mib", "limit", "mebibytes"),
    [
        ("uml", 4000, "64G", 2000), ("qemu", 4000, "64G", 2000), ("uml", 100, "64G", 256), ("qemu", 100, "64G", 512),
        ("uml", 16_000, "16M", 256), ("uml", 16_000, "64M", 288), ("uml", 16_000, "65M", 320),
        ("qemu", 16_000, "160M", 512), ("qemu", 16_000, "161M", 544),
    ],
)  # fmt: skip
def test_it_is_bounded_by_half_of_the_host_and_by_the_least(wanted, host_mib, limit, mebibytes):
    host = HostCapacity(qemu=True, cpus=2, memory_mib=host_mib)
    assert machine(SERVICE + f'MemoryMax = "{limit}"\n', host, wanted).memory_mib == mebibytes


@pytest.mark.parametrize(
    ("wanted", "share", "mebibytes"),
    [("uml", "75%", 896), ("uml", "90%", 2240), ("uml", "1%", 256), ("qemu", "75%", 1408)],
)
def test_a_share_of_the_memory_leaves_enough_for_the_system(wanted, share, mebibytes):
    text = SERVICE + f'MemoryMax = "{share}"\n'
    found = machine(text, wanted=wanted)
    assert found.memory_mib == mebibytes
    assert requirements_of(config_of(text)).impossible(found)[0] == ""


def test_a_share_that_no_guest_can_test_is_impossible():
    required = requirements_of(config_of('[slices.a]\nMemoryMax = "90.01%"\n' + SERVICE))
    assert "limit of 90.01% leaves too little" in required.impossible(choose_machine(required, "auto", BOTH))[0]
    required = requirements_of(config_of(SERVICE + 'MemoryHigh = "90%"\n'))
    small = HostCapacity(qemu=True, cpus=2, memory_mib=4000)
    what, _ = required.impossible(choose_machine(required, "auto", small))
    assert "needs a guest with 2240 MiB, and this host can give a guest 2000 MiB" in what


@pytest.mark.parametrize(
    ("text", "ready"),
    [
        ('[services.web.smoke]\nready = "http://[::1]:8080/healthz"\n', ("web",)),
        ('[services.web.smoke]\nready = "tcp://[::1]:8080"\n', ("web",)),
        ('[services.web.smoke]\nargs = ["--listen=[::1]:80"]\n', ()),
        ('[services.web.smoke]\nenv = { ADDRESS = "[::]:80" }\n', ()),
    ],
)
def test_an_ipv6_address_takes_qemu(text, ready):
    required = requirements_of(config_of(SERVICE + text))
    assert (required.reasons, required.ipv6) == (("an IPv6 address needs IPv6",), ready)
    assert choose_machine(required, "auto", BOTH).engine is GuestEngine.QEMU
    # Without QEMU it is the missing program where a service could not become ready.
    assert choose_machine(required, "auto", ALONE).engine is (GuestEngine.QEMU if ready else GuestEngine.UML)
    named = choose_machine(required, "uml", BOTH)
    assert ("web is to be ready at an IPv6 address" in required.impossible(named)[0]) is bool(ready)


@pytest.mark.parametrize(
    "text",
    ['ready = "log:[a-f:]"\n', 'ready = "http://127.0.0.1:80"\n', 'args = ["[x:y]", "[12]", "a:b"]\n'],
)
def test_what_only_looks_like_an_ipv6_address_does_not(text):
    required = requirements_of(config_of(SERVICE + "[services.web.smoke]\n" + text))
    assert (required.reasons, required.ipv6) == ((), ())


def test_the_config_knows_the_guests_distributions():
    assert tuple(SUITES) == DISTROS


@pytest.mark.parametrize(
    ("target", "engine", "cpus", "memory"),
    [
        ('memory = "1G"', GuestEngine.UML, 1, 1024),
        ('memory = "1G"\nmachine = "qemu"', GuestEngine.QEMU, 2, 1024),
        ("cpus = 1", GuestEngine.UML, 1, 352),
        ("cpus = 2", GuestEngine.QEMU, 2, 512),
        ("cpus = 7", GuestEngine.QEMU, 7, 512),
        ('cpus = 1\nmachine = "qemu"', GuestEngine.QEMU, 1, 512),
        ('kernel = "backports"', GuestEngine.QEMU, 2, 512),
    ],
)
def test_memory_and_cpus_of_the_config(target: str, engine: GuestEngine, cpus: int, memory: int) -> None:
    config = config_of(f"{SERVICE}[target]\n{target}\n")
    required = requirements_of(config)
    found = choose_machine(required, config.target.machine, BOTH)
    assert (found.engine, found.cpus, found.memory_mib) == (engine, cpus, memory)
    assert required.impossible(found)[0] == ""
    # Without QEMU, the error is that it is missing.
    assert choose_machine(required, config.target.machine, ALONE).engine is engine


@pytest.mark.parametrize(
    ("target", "words"),
    [
        (
            'cpus = 2\nmachine = "uml"',
            ("user-mode-linux has one CPU, and cpus in [target] is 2", 'set machine = "auto" or "qemu" in [target]'),
        ),
        (
            'kernel = "backports"\nmachine = "uml"',
            (
                "user-mode-linux has a kernel of its own, and kernel in [target] is backports",
                'set machine = "auto" or "qemu" in [target]',
            ),
        ),
        (
            'memory = "20G"',
            (
                "memory in [target] is 20480 MiB, and this host can give a guest 16000 MiB",
                "set less memory, or run on a larger host",
            ),
        ),
    ],
)
def test_what_no_machine_here_can_be(target: str, words: tuple[str, str]) -> None:
    config = config_of(f"{SERVICE}[target]\n{target}\n")
    required = requirements_of(config)
    assert required.impossible(choose_machine(required, config.target.machine, BOTH)) == words
