"""Facts of a machine in few round trips: what is read is what a reader of this machine reads."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from cgroup_preflight.core.errors import HostError, UsageError
from cgroup_preflight.core.reading import Known, Missing, Reading, Why, value_or
from cgroup_preflight.core.records import replace
from cgroup_preflight.core.report import Remedy
from cgroup_preflight.host.command import LiveRunner
from cgroup_preflight.host.fs import LiveFs
from cgroup_preflight.host.gather import gather
from cgroup_preflight.host.remote.asking import Asker
from cgroup_preflight.host.remote.questions import Kind, Question
from cgroup_preflight.host.remote.rounds import BYTES_MAX, SECONDS, Rounds
from tests.unit.host.remote.ends import LocalLines
from tests.unit.stated import round_trips

#: Of `gather`, which is what `check` reads.
MOST_ROUND_TRIPS, _ = round_trips()["`check`"]


class Played:
    """As `Asker`, with a text for each path; `asked` are the questions by round."""

    def __init__(self, texts: dict[str, str], commands: dict[str, str] | None = None) -> None:
        self.texts, self.commands = texts, commands or {}
        self.asked: list[list[str]] = []
        self.lost = ""

    @contextmanager
    def bounded(self, seconds: float, most: int) -> Iterator[None]:
        assert (seconds, most) == (SECONDS, BYTES_MAX)
        yield

    def ask(self, questions: list[Question]) -> list[Reading[object]]:
        self.asked.append([one.path or " ".join(one.words) for one in questions])
        return [self._of(one) for one in questions]

    def _of(self, one: Question) -> Reading[object]:
        if one.kind is Kind.COMMAND:
            return Missing(source="", why=Why.ABSENT)
        if one.path not in self.texts:
            return Missing(source=one.path, why=Why.ABSENT)
        return Known(value=self.texts[one.path].encode(), source=one.path)


def test_questions_that_depend_on_nothing_go_out_together_and_the_others_after_them():
    asker = Played({"/a": "/c", "/b": "B", "/c": "C"})

    def reader(fs, _runner):
        first = value_or(fs.read("/a"), "")
        return value_or(fs.read("/b"), ""), value_or(fs.read(first), "") if first else ""

    rounds = Rounds(asker)
    assert rounds.read(reader) == ("B", "C")
    assert asker.asked == [["/a", "/b"], ["/c"]]
    assert rounds.read(reader) == ("B", "C")
    assert asker.asked[2:] == [["/a", "/b", "/c"]]


def test_a_second_reading_asks_everything_anew():
    asker = Played({"/a": "1"})
    rounds = Rounds(asker)
    assert rounds.read(lambda fs, _: value_or(fs.read("/a"), "")) == "1"
    asker.texts["/a"] = "2"
    assert rounds.read(lambda fs, _: value_or(fs.read("/a"), "")) == "2"


def test_commands_run_only_when_no_file_is_missing_any_more():
    asker = Played({"/a": "yes"})

    def reader(fs, runner):
        if value_or(fs.read("/a"), "no") == "no":
            runner.run(("rm", "-rf", "/"))
        runner.run(("id",))
        return fs.read("/b").why

    assert Rounds(asker).read(reader) is Why.ABSENT
    assert asker.asked == [["/a", "/b"], ["id"]]


def test_an_error_counts_only_when_everything_is_known():
    def reader(fs, _runner):
        if value_or(fs.read("/a"), "") != "right":
            raise HostError("half known", remedy=Remedy(title="-"))
        raise UsageError("the answer", remedy=Remedy(title="-"))

    with pytest.raises(UsageError, match="the answer"):
        Rounds(Played({"/a": "right"})).read(reader)


def test_a_machine_whose_answers_lead_to_new_questions_without_end_is_given_up():
    class Endless(Played):
        def _of(self, one: Question) -> Reading[object]:
            return Known(value=f"{one.path}x".encode(), source=one.path)

    def reader(fs, _runner):
        path = "/a"
        while True:
            found = fs.read(path)
            if isinstance(found, Missing):
                return
            path = found.value

    with pytest.raises(HostError, match="without end"):
        Rounds(Endless({})).read(reader)


def test_a_lost_machine_is_an_error():
    asker = Played({})
    asker.lost = "no route to host"
    with pytest.raises(HostError, match="no route to host"):
        Rounds(asker).read(lambda fs, _: fs.read("/a"))


@pytest.mark.starts_processes
@pytest.mark.parametrize("files", [None, ("false",)])
def test_the_facts_are_those_that_this_machine_reads(files):
    lines = LocalLines(files=files)
    asker = Asker(lines.shell, lines.files)
    there = Rounds(asker).read(gather)
    here = gather(LiveFs(), LiveRunner())
    # The memory that is free changes all the time, and so do the counters.
    still = {"meminfo": here.meminfo, "pressure": here.pressure}
    there = replace(there, **still, sample=replace(there.sample, cpu_stat=here.sample.cpu_stat))
    for name in type(here).__slots__:
        assert getattr(there, name) == getattr(here, name), name
    assert asker.round_trips <= MOST_ROUND_TRIPS
    asker.close()
