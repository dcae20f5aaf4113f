"""A wrong accusation is worse than none: idle and symmetric trees are never accused, whatever else they look like."""

from hypothesis import given
from hypothesis import strategies as st

from cgroup_preflight.metrics.contention import judge
from cgroup_preflight.metrics.entitlement import Claim, shares
from cgroup_preflight.metrics.window import Group, Io, Memory, Pressure, Series, Traffic
from tests.unit.metrics.windows import group, series

_MIB = 1 << 20
_SHARE = st.floats(0, 1)
_CALM = st.floats(0, 0.09)


@st.composite
def _idle(draw: st.DrawFn) -> Group:
    """A cgroup in which nobody waits noticeably and nothing was killed; all else is arbitrary."""
    path = draw(
        st.sampled_from(("/a.slice", "/a.slice/x.service", "/a.slice/y.service", "/b.slice", "/b.slice/z.service"))
    )
    periods = draw(st.integers(0, 100))
    memory = Memory(
        current=draw(st.integers(0, 3000)) * _MIB, grown=draw(st.integers(-500, 500)) * _MIB,
        max=draw(st.none() | st.integers(0, 4000).map(lambda size: size * _MIB)),
        events={"high": draw(st.integers(0, 1000)), "max": draw(st.integers(0, 1000))},
        refaults=draw(st.integers(0, 100_000)), pressure=Pressure(waiting=draw(_CALM), stalled=0.0),
    )  # fmt: skip
    io = Io(
        devices={"8:0": Traffic(bytes=draw(st.integers(0, 1 << 33)), operations=draw(st.integers(0, 10**6)))},
        pressure=Pressure(waiting=draw(_CALM), stalled=0.0),
    )
    return group(
        path, draw(st.floats(0, 4)), draw(_CALM), quota=draw(st.none() | st.floats(0.01, 4)), periods=periods,
        throttled=draw(st.integers(0, periods)), throttled_cpus=draw(st.floats(0, 4)), weight=draw(st.integers(0, 10_000)),
        local_cpus=draw(st.none() | st.floats(0, 4)), memory=memory, io=io,
    )  # fmt: skip


@given(st.lists(_idle(), max_size=5, unique_by=lambda item: item.path), _SHARE, _SHARE)
def test_nobody_waits_so_nobody_is_accused(groups: list[Group], busy: float, pressed: float) -> None:
    waits = Pressure(waiting=pressed, stalled=pressed)
    answer = judge(series(*groups, busy=busy, cpu=waits, memory=waits, io=waits))
    assert answer.diagnoses == ()
    assert {item.status.value for item in answer.findings if item.code == "CGP700"} <= {"pass"}


@st.composite
def _symmetric(draw: st.DrawFn) -> Series:
    """Slices with the same services in each, all with the same numbers; the host may be in any trouble."""
    slices, services = draw(st.integers(1, 4)), draw(st.integers(1, 4))
    usage, waiting, weight = draw(st.floats(0, 4)) / (slices * services), draw(_SHARE), draw(st.integers(1, 10_000))
    memory = Memory(
        current=draw(st.integers(0, 4000)) * _MIB // (slices * services),
        grown=draw(st.integers(0, 1000)) * _MIB // (slices * services), refaults=draw(st.integers(0, 10**5)),
        pressure=Pressure(waiting=draw(_SHARE), stalled=0.0),
    )  # fmt: skip
    io = Io(
        devices={"8:0": Traffic(bytes=draw(st.integers(0, 1 << 30)), operations=draw(st.integers(0, 10**5)))},
        pressure=Pressure(waiting=draw(_SHARE), stalled=0.0),
    )
    groups = []
    for number in range(slices):
        groups.append(group(f"/s{number}.slice", usage * services, waiting, weight=weight))
        for other in range(services):
            path = f"/s{number}.slice/u{other}.service"
            groups.append(group(path, usage, waiting, weight=weight, memory=memory, io=io, tasks=draw(st.just(4))))
    waits = Pressure(waiting=draw(_SHARE), stalled=0.0)
    return series(*groups, busy=draw(_SHARE), memory=waits, cpu=waits, io=waits)


@given(_symmetric())
def test_no_neighbour_is_accused_among_equals(tree: Series) -> None:
    for item in judge(tree).diagnoses:
        # The host can have too little, or the kernel can be unfair; but none of the equals is the cause.
        assert item.cause in ("", item.victim), item
        assert item.rule in ("C4", "M2")
        assert item.confidence.value != "high" or item.rule == "M2"


_CLAIMS = st.lists(
    st.builds(
        Claim, weight=st.integers(0, 10_000), used=st.floats(0, 8), hungry=st.booleans(), most=st.floats(0.01, 8),
    ),
    max_size=8,
)  # fmt: skip


@given(st.floats(0, 8), _CLAIMS)
def test_entitlements_are_a_division_of_what_there_is(available: float, claims: list[Claim]) -> None:
    given_cpus = shares(available, claims)
    assert len(given_cpus) == len(claims)
    satisfied = sum(min(claim.used, claim.most) for claim in claims if not claim.hungry)
    assert sum(given_cpus) <= max(available, satisfied) + 1e-6
    for cpus, claim in zip(given_cpus, claims, strict=True):
        assert 0 <= cpus <= claim.most + 1e-9
    hungry = [(cpus, claim) for cpus, claim in zip(given_cpus, claims, strict=True) if claim.hungry]
    for cpus, claim in hungry:
        for other, theirs in hungry:
            if cpus < claim.most - 1e-9 and max(claim.weight, 1) >= max(theirs.weight, 1):
                # Who wants more and weighs at least as much has at least as much.
                assert cpus >= other - 1e-6 or other >= theirs.most - 1e-9
