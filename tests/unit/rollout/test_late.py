"""Answers of a host that come seconds late: what they say was so when they were asked."""

from types import SimpleNamespace

from cgroup_preflight.rollout.apply import VERIFY_SECONDS, looks, restored


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now

    def wall(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def test_the_last_look_begins_when_the_time_is_over():
    clock = Clock()
    found = looks(clock, 10.0)
    assert not next(found)
    clock.sleep(20.0)
    assert next(found)


def test_old_values_that_came_back_while_an_answer_was_late_are_back():
    """One answer is later than the whole time to verify; a host whose values do not come back is told all the same."""
    for answers, why in ((["a.slice MemoryMax"], ""), (["a.slice MemoryMax"] * 1000, "a.slice MemoryMax")):
        clock, left = Clock(), list(answers)

        def read_back(
            *_words: object, clock: Clock = clock, left: list[str] = left, **_options: object
        ) -> list[object]:
            found = [SimpleNamespace(name=text, __str__=lambda self: self.name) for text in left[:1]]
            clock.sleep(VERIFY_SECONDS * 1.5)
            left[:1] = []
            return found

        hands = SimpleNamespace(restore=lambda left: "", old={}, read_back=read_back, over_usage=lambda limits: [],
                                changed_files=lambda left: [])  # fmt: skip
        assert (why in restored(hands, clock, ())) if why else restored(hands, clock, ()) == ""
