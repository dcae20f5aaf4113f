"""Log files: whole, followed, appearing late, emptied, replaced, and what is no file."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from cgroup_preflight.host.log_files import LINE_MAX, TAIL, lines_of_files


class Stopped(Exception):
    pass


def followed(paths: dict[str, str], *steps: Callable[[], object]) -> list[tuple[str, bytes]]:
    """What is read of files that change between two looks, one step at each; then the reader is stopped."""
    todo, found = list(steps), list[tuple[str, bytes]]()

    def sleep(seconds: float) -> None:
        assert seconds > 0
        if not todo:
            raise Stopped
        todo.pop(0)()

    with pytest.raises(Stopped):
        for item in lines_of_files(paths, follow=True, sleep=sleep):
            found.append(item)
    return found


def no_sleep(seconds: float) -> None:
    raise AssertionError(seconds)


def add(path: Path, data: bytes) -> Callable[[], object]:
    def act() -> None:
        with path.open("ab") as file:
            file.write(data)

    return act


def test_whole_files_with_a_last_line_that_has_no_end(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"1\n2\xff\n3")
    (tmp_path / "b").write_bytes(b"")
    paths = {"a": f"{tmp_path}/a", "b": f"{tmp_path}/b", "c": f"{tmp_path}/absent"}
    found = list(lines_of_files(paths, follow=False, sleep=no_sleep))
    assert found == [("a", b"1"), ("a", b"2\xff"), ("a", b"3")]


def test_following_begins_with_the_last_lines_and_waits_for_the_end_of_a_line(tmp_path: Path) -> None:
    file = tmp_path / "a"
    file.write_bytes(b"old\n" * TAIL + b"last\nha")
    found = followed({"a": str(file)}, add(file, b"lf\nnew\n"), add(file, b"more\n"))
    assert [line for _, line in found][-4:] == [b"last", b"half", b"new", b"more"]
    assert len(found) < TAIL


def test_a_file_that_appears_is_read_from_its_beginning(tmp_path: Path) -> None:
    file = tmp_path / "a"
    assert followed({"a": str(file)}, lambda: None, add(file, b"1\n2\n")) == [("a", b"1"), ("a", b"2")]


def test_a_file_that_is_replaced_or_emptied_is_read_again(tmp_path: Path) -> None:
    file = tmp_path / "a"
    file.write_bytes(b"1\n")

    def replace() -> None:
        os.replace(file, tmp_path / "a.1")
        file.write_bytes(b"2\n")

    found = followed({"a": str(file)}, replace, lambda: file.write_bytes(b""), add(file, b"3\n"))
    assert [line for _, line in found] == [b"1", b"2", b"3"]


def test_a_line_without_an_end_is_shown_in_parts(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x" * (3 * LINE_MAX + 1))
    found = [line for _, line in lines_of_files({"a": f"{tmp_path}/a"}, follow=False, sleep=no_sleep)]
    assert b"".join(found) == b"x" * (3 * LINE_MAX + 1)
    assert len(found) > 1


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: os.symlink("/dev/zero", path)])
def test_what_is_no_file_is_refused_at_once(tmp_path: Path, make: Callable[[str], object]) -> None:
    make(f"{tmp_path}/a")
    with pytest.raises(OSError, match=r"file|directory|links"):
        list(lines_of_files({"a": f"{tmp_path}/a"}, follow=False, sleep=no_sleep))
