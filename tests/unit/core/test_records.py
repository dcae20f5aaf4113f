"""Our dataclasses against those of the standard library: the same in all that is used of them."""

import dataclasses
import subprocess
import sys

import pytest

from cgroup_preflight.core.records import dataclass, field


def _twins():
    def build(decorate, make):
        @decorate
        class Pair:
            """A pair."""

            left: int
            right: str = "r"
            rest: dict = make(default_factory=dict)

            @property
            def both(self):
                return f"{self.left}{self.right}"

        return Pair

    ours = build(dataclass(frozen=True, slots=True, kw_only=True), field)
    return ours, build(dataclasses.dataclass(frozen=True, slots=True, kw_only=True), dataclasses.field)


OURS, THEIRS = _twins()


@pytest.mark.parametrize("kind", [OURS, THEIRS])
def test_a_dataclass(kind):
    one = kind(left=1)
    assert (one.left, one.right, one.rest, one.both) == (1, "r", {}, "1r")
    assert one == kind(left=1, right="r", rest={})
    assert one != kind(left=2)
    assert one != (1, "r", {})
    assert kind(left=1).rest is not one.rest
    assert kind.__doc__ == "A pair."
    assert dataclasses.is_dataclass(one)
    assert [item.name for item in dataclasses.fields(kind)] == ["left", "right", "rest"]
    assert dataclasses.replace(one, right="x") == kind(left=1, right="x")
    assert dataclasses.asdict(one) == {"left": 1, "right": "r", "rest": {}}
    assert not hasattr(one, "__dict__")
    assert repr(one).endswith("Pair(left=1, right='r', rest={})")


@pytest.mark.parametrize("kind", [OURS, THEIRS])
@pytest.mark.parametrize("wrong", [{}, {"right": "x"}, {"left": 1, "middle": 2}])
def test_wrong_arguments(kind, wrong):
    with pytest.raises(TypeError):
        kind(**wrong)
    with pytest.raises(TypeError):
        kind(1, "r")


@pytest.mark.parametrize("kind", [OURS, THEIRS])
def test_it_is_frozen(kind):
    one = kind(left=1)
    with pytest.raises(AttributeError):
        one.left = 2
    with pytest.raises(AttributeError):
        del one.left


@pytest.mark.parametrize("decorate", [dataclass, dataclasses.dataclass])
def test_positional_and_hashable(decorate):
    @decorate(frozen=True, slots=True)
    class Point:
        x: int
        y: int = 0

    assert Point(1) == Point(x=1, y=0)
    assert {Point(1, 2): "a"}[Point(1, 2)] == "a"
    with pytest.raises(TypeError):
        Point(1, 2, 3)


@pytest.mark.starts_processes
@pytest.mark.parametrize("module", ["dataclasses", "inspect", "typing", "pathlib", "shutil", "unicodedata"])
def test_a_check_of_this_host_starts_without(module, tmp_path):
    """Each takes a good part of what Python itself takes to start."""
    script = (
        "import sys\nbefore = set(sys.modules)\nimport io, contextlib\nfrom cgroup_preflight.cli import main\n"
        "with contextlib.redirect_stdout(io.StringIO()): main(['check'])\n"
        f"print({module!r} in set(sys.modules) - before)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout == "False\n", done.stderr
