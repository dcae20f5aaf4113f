"""Questions of which one program answers many: who gets which line and which complaint."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cgroup_preflight.core.reading import Known, Why
from cgroup_preflight.host.remote.grouped import groups_of, outputs_of, scripts_of
from cgroup_preflight.host.remote.questions import Kind, Question, reading_of
from cgroup_preflight.host.remote.shell import Output, Shell
from tests.unit.host.remote.ends import program


def numbers(*paths: str) -> list[Question]:
    return [Question(kind=Kind.NUMBERS, path=path) for path in paths]


def test_plain_paths_go_to_one_program_and_others_to_their_own():
    odd = Question(kind=Kind.NUMBERS, path="/a b")
    link = Question(kind=Kind.LINK, path="/l")
    asked = [*numbers("/a", "/b"), odd, *numbers("/c"), link, *numbers("/d", "/e.slice/x@1.service")]
    assert [len(group) for group in groups_of(asked)] == [2, 1, 1, 1, 2]
    assert [one for group in groups_of(asked) for one in group] == asked
    assert scripts_of(asked)[0].text == "stat -L -c '%d %i %f %t %T %n' -- /a /b"
    assert [len(group) for group in groups_of(numbers(*(f"/{number}" for number in range(201))))] == [100, 100, 1]
    assert list(groups_of([])) == scripts_of([]) == outputs_of([], []) == []


@pytest.mark.starts_processes
def test_each_gets_its_own_answer(tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "loop").symlink_to("loop")
    asked = numbers(f"{tmp_path}/file", f"{tmp_path}/none", str(tmp_path), f"{tmp_path}/loop", f"{tmp_path}/file/x")
    shell = Shell(program("sh"))
    outputs = outputs_of(asked, shell.run(scripts_of(asked)))
    shell.close()
    alone = [reading_of(question, output) for question, output in zip(asked, outputs, strict=True)]
    for place, path in ((0, tmp_path / "file"), (2, tmp_path)):
        assert isinstance(alone[place], Known)
        assert (alone[place].value.device, alone[place].value.number) == (path.stat().st_dev, path.stat().st_ino)
    assert alone[1].why is Why.ABSENT
    assert os.strerror(40) in alone[3].detail or alone[3].errno == 40
    assert alone[4].errno == 20


@given(out=st.binary(max_size=80), err=st.text(max_size=80), status=st.integers(0, 255))
def test_whatever_the_program_prints_each_has_an_answer(out, err, status):
    asked = numbers("/a", "/b", "/c")
    found = outputs_of(asked, [Output(out=out, status=status, err=err)])
    assert len(found) == 3
    for question, output in zip(asked, found, strict=True):
        reading_of(question, output)
        assert output.status == 0 or not output.out


def test_a_line_that_is_missing_without_a_complaint_is_no_answer():
    first, second = outputs_of(numbers("/a", "/b"), [Output(out=b"1 2 81a4 0 0 /a\n", status=0, err="")])
    assert first == Output(out=b"1 2 81a4 0 0", status=0, err="")
    assert second.status == 1
