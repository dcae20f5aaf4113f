"""Which probe begins next, on machines with some CPUs."""

from cgroup_preflight.smoke.probe_plan import Capacity, lanes, plan_probes, probe_units
from cgroup_preflight.smoke.turns import Turns
from tests.unit.smoke.fabricate import NUMBERS, SCOPE, plan


class Trial:
    """The probes of a plan, by label and kind."""

    def __init__(self, text: str, cpus: int) -> None:
        capacity = Capacity(cpus=cpus, available_bytes=8 << 30)
        self.probes, _ = plan_probes(plan(text), NUMBERS, capacity)
        ways = lanes(SCOPE, probe_units(SCOPE, self.probes), self.probes)
        self.turns, self.lanes = Turns(self.probes, ways, capacity), range(len(ways))

    def name(self, number: int) -> str:
        probe = self.probes[number]
        return f"{probe.label} {probe.kind}"

    def begun(self, kind: str = "", busy: tuple[int, ...] = ()) -> dict[int, int]:
        """What begins now in all lanes but the `busy` ones, of this kind or of all: lane and number."""
        found = (
            (lane, self.turns.begin(lane, lambda number: kind in ("", self.probes[number].kind)))
            for lane in self.lanes if lane not in busy
        )  # fmt: skip
        return {lane: number for lane, number in found if number is not None}

    def end(self, begun: dict[int, int], *, lacked_cpu: bool = False) -> list[str]:
        for lane, number in begun.items():
            self.turns.end(lane, number, lacked_cpu=lacked_cpu)
        return sorted(map(self.name, begun.values()))

    def rounds(self) -> list[list[str]]:
        """What runs together where all that has begun ends at the same time."""
        found = []
        while any(map(self.turns.are_left, self.lanes)):
            begun = self.begun()
            assert begun
            found.append(self.end(begun))
        return found


def service(name: str, where: str, settings: str) -> str:
    return f"[services.{name}]\nbinary = 'x'\nslice = '{where}'\n{settings}\n"


_SHOP = (
    "[slices.api]\nTasksMax = 64\n[slices.worker]\nCPUQuota = '50%'\n"
    + service("auth", "api", "CPUQuota = '40%'\nTasksMax = 32")
    + service("users", "api", "CPUQuota = '50%'\nMemoryMax = '96M'")
    + service("jobs", "worker", "CPUQuota = '30%'\nMemoryMax = '48M'")
)


def test_quotas_share_the_cpu_and_all_others_come_after_them():
    assert Trial(_SHOP, 1).rounds() == [
        ["jobs cpu", "users cpu"],
        ["auth cpu", "worker.slice cpu"],
        ["auth tasks"],
        ["api.slice tasks"],
        ["users max"],
        ["jobs max"],
    ]
    assert Trial(_SHOP, 2).rounds() == [
        ["users cpu", "worker.slice cpu"],
        ["auth cpu", "jobs cpu"],
        ["auth tasks", "jobs max"],
        ["api.slice tasks"],
        ["users max"],
    ]


def test_until_the_rest_may_begin_there_are_only_quotas():
    trial = Trial(_SHOP, 2)
    for _ in range(2):
        trial.end(trial.begun("cpu"))
    assert trial.begun("cpu") == {}
    assert all(map(trial.turns.are_left, trial.lanes))


def test_others_use_what_quotas_leave():
    text = "[slices.a]\n[slices.b]\n" + service("q", "a", "CPUQuota = '60%'") + service("m", "b", "TasksMax = 20")
    assert Trial(text, 1).rounds() == [["m tasks", "q cpu"]]


def test_a_quota_that_received_too_little_next_to_others_has_one_turn_alone():
    trial = Trial(_SHOP, 2)
    assert trial.end(trial.begun(), lacked_cpu=True) == ["users cpu", "worker.slice cpu"]
    for expected in (["users cpu"], ["auth cpu", "jobs cpu"], ["worker.slice cpu"]):
        assert trial.end(trial.begun(), lacked_cpu="jobs cpu" not in expected) == expected
    # Only once.
    assert "cpu" not in str(trial.rounds())


def test_nothing_begins_next_to_a_quota_that_runs_alone():
    text = "[slices.a]\n[slices.b]\n" + service("p", "a", "CPUQuota = '20%'") + service("q", "b", "CPUQuota = '30%'")
    trial = Trial(text, 4)
    first = trial.begun()
    assert len(first) == 2
    (lane, number), (other, _) = first.items()
    trial.turns.end(lane, number, lacked_cpu=True)
    assert trial.begun(busy=(other,)) == {}
    trial.turns.end(other, first[other], lacked_cpu=True)
    (again,) = trial.begun().items()
    assert trial.begun(busy=(again[0],)) == {}
    trial.end(dict([again]))
    assert len(trial.begun()) == 1


def test_a_quota_that_received_too_little_by_itself_has_no_other_turn():
    trial = Trial("[slices.a]\n" + service("p", "a", "CPUQuota = '20%'"), 4)
    trial.end(trial.begun(), lacked_cpu=True)
    assert trial.rounds() == []


def test_one_that_is_put_back_has_its_turn_again():
    trial = Trial("[slices.a]\n" + service("p", "a", "CPUQuota = '20%'\nTasksMax = 20"), 4)
    (begun,) = trial.begun().items()
    trial.turns.put_back(*begun)
    assert trial.rounds() == [["p cpu"], ["p tasks"]]


def test_no_other_probe_of_a_lane_begins_before_a_quota_that_waits():
    """At the end it would run alone, and the CPU would be idle."""
    text = "[slices.a]\n[slices.b]\n" + service("p", "a", "CPUQuota = '80%'\nTasksMax = 20")
    trial = Trial(text + service("q", "b", "CPUQuota = '70%'\nTasksMax = 30"), 1)
    assert trial.rounds() == [["p cpu"], ["p tasks", "q cpu"], ["q tasks"]]
