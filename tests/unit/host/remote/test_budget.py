"""What all answers of a machine may take together: drop by drop, or in many small pieces, they end with a reason."""

import socket
import threading
from collections.abc import Iterator

import pytest

from cgroup_preflight.core.errors import HostError
from cgroup_preflight.core.reading import Known, Missing, value_or
from cgroup_preflight.host.remote import rounds
from cgroup_preflight.host.remote.asking import Asker
from cgroup_preflight.host.remote.line import Line
from cgroup_preflight.host.remote.questions import NAMES_MAX, Kind, Question, reading_of
from cgroup_preflight.host.remote.rounds import Rounds
from cgroup_preflight.host.remote.shell import Output
from tests.unit.host.remote.ends import LocalLines, spoken, version

pytestmark = pytest.mark.timeout(60)
FOREVER = 3600.0


def no_shell() -> Line:
    raise AssertionError("the shell is not needed here")


def drops() -> Line:
    """A line whose other end says one byte of a long packet after another, so that it is never silent."""

    def speak(there: socket.socket) -> None:
        stop = threading.Event()
        there.sendall(version() + b"\0\3\0\0")
        while not stop.wait(0.01):
            there.sendall(b"\2")

    return spoken(speak)


@pytest.fixture
def asker() -> Iterator[Asker]:
    lines = LocalLines()
    made = Asker(lines.shell, lines.files)
    yield made
    made.close()


def data(path: object) -> Question:
    return Question(kind=Kind.DATA, path=str(path))


def test_a_machine_that_answers_drop_by_drop_is_given_up_after_the_time_of_the_whole():
    for make in (lambda: Asker(drops, None), lambda: Asker(no_shell, drops)):
        asker = make()
        with asker.bounded(0.3, 1 << 30):
            (found,) = asker.ask([data("/etc/hostname")])
        assert isinstance(found, Missing)
        assert "0.3 s in all" in asker.lost
        asker.close()


def test_the_reader_of_facts_says_so(monkeypatch):
    monkeypatch.setattr(rounds, "SECONDS", 0.3)
    asker = Asker(no_shell, drops)
    with pytest.raises(HostError, match=r"its answers take longer than 0.3 s in all"):
        Rounds(asker).read(lambda fs, _: fs.read("/etc/hostname"))
    asker.close()


@pytest.mark.starts_processes
def test_answers_of_several_calls_count_together(asker, tmp_path):
    (tmp_path / "a").write_bytes(b"x" * 600_000)
    with asker.bounded(FOREVER, 1 << 20):
        (first,) = asker.ask([data(tmp_path / "a")])
        assert len(value_or(first, b"")) == 600_000
        (second,) = asker.ask([data(tmp_path / "a")])
    assert isinstance(second, Missing)
    assert asker.lost == "its answers are longer than 1M in all"


@pytest.mark.starts_processes
def test_a_wider_bound_counts_what_a_narrower_one_took(asker, tmp_path):
    (tmp_path / "a").write_bytes(b"x" * 600_000)
    with asker.bounded(FOREVER, 1 << 20):
        for _ in range(2):
            with asker.bounded(FOREVER, 1 << 30):
                asker.ask([data(tmp_path / "a")])
    assert asker.lost == "its answers are longer than 1M in all"


@pytest.mark.starts_processes
def test_after_the_bound_calls_are_free_again(asker, tmp_path):
    (tmp_path / "a").write_bytes(b"x" * 600_000)
    for _ in range(3):
        with asker.bounded(FOREVER, 1 << 20):
            assert isinstance(asker.ask([data(tmp_path / "a")])[0], Known)
    assert isinstance(asker.ask([data(tmp_path / "a")])[0], Known)
    assert asker.lost == ""


@pytest.mark.starts_processes
@pytest.mark.parametrize(("most", "kept"), [(6_000, False), (60_000, True)])
def test_names_count_for_what_they_take_in_memory(asker, tmp_path, most, kept):
    for number in range(100):
        (tmp_path / f"{number}").mkdir()
    # About 2000 bytes on the line, and more than 6400 in memory.
    with asker.bounded(FOREVER, most):
        (found,) = asker.ask([Question(kind=Kind.TREE, path=str(tmp_path))])
    assert isinstance(found, Known) is kept
    assert ("in all" in asker.lost) is not kept


@pytest.mark.parametrize(("kind", "entry"), [(Kind.NAMES, b"/a"), (Kind.TREE, b"1 a")])
def test_more_names_than_a_folder_has_are_malformed(kind, entry):
    question = Question(kind=kind, path="/sys")
    for count in (NAMES_MAX, NAMES_MAX + 1):
        found = reading_of(question, Output(out=(entry + b"\0") * count, status=0, err=""))
        assert isinstance(found, Known) is (count == NAMES_MAX)


@pytest.mark.starts_processes
def test_a_reader_whose_files_are_too_long_together_is_told_so(monkeypatch, tmp_path):
    monkeypatch.setattr(rounds, "BYTES_MAX", 1 << 20)
    paths = [str(tmp_path / f"{number}") for number in range(20)]
    for path in paths:
        with open(path, "wb") as file:
            file.write(b"x" * 100_000)
    lines = LocalLines()
    asker = Asker(lines.shell, lines.files)
    with pytest.raises(HostError, match="longer than 1M in all"):
        Rounds(asker).read(lambda fs, _: [fs.read(path) for path in paths])
    asker.close()
    asker = Asker(lines.shell, lines.files)
    assert len(Rounds(asker).read(lambda fs, _: [fs.read(path) for path in paths[:5]])) == 5
    asker.close()
