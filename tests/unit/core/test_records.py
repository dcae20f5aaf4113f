"""Our dataclasses against those of the standard library: each test takes one class made by each."""

import dataclasses
import subprocess
import sys

import pytest

from cgroup_preflight.core import records


def _made(dataclass, field):
    @dataclass(frozen=True, slots=True, kw_only=True)
    class Limit:
        """A limit."""

        name: str
        size: int = 7
        notes: dict = field(default_factory=dict)

        @property
        def wide(self):
            return self.size * 2

    return Limit


BOTH = pytest.mark.parametrize(
    "cls", [_made(records.dataclass, records.field), _made(dataclasses.dataclass, dataclasses.field)]
)


@BOTH
def test_values_defaults_and_methods(cls):
    item = cls(name="a")
    assert (item.name, item.size, item.notes, item.wide) == ("a", 7, {}, 14)
    assert cls(name="b").notes is not item.notes
    assert cls.__doc__ == "A limit."
    assert repr(item).endswith("Limit(name='a', size=7, notes={})")
    assert not hasattr(item, "__dict__")


@BOTH
def test_equal_by_value_and_only_to_its_own_kind(cls):
    assert cls(name="a") == cls(name="a", size=7, notes={})
    assert cls(name="a") != cls(name="b")
    assert cls(name="a") != "a"
    assert cls(name="a") != ("a", 7, {})
    assert hash(cls(name="a", notes=())) == hash(cls(name="a", notes=()))


@pytest.mark.parametrize("dataclass", [records.dataclass, dataclasses.dataclass])
def test_an_init_of_the_class_itself_is_kept(dataclass):
    @dataclass(frozen=True, slots=True, kw_only=True)
    class Limit:
        name: str

        def __init__(self, *, name: str) -> None:
            object.__setattr__(self, "name", name.upper())

    assert Limit(name="a").name == "A"
    assert Limit(name="a") == Limit(name="A")
    with pytest.raises(AttributeError):
        Limit(name="a").name = "b"


@BOTH
def test_frozen(cls):
    item = cls(name="a")
    with pytest.raises(AttributeError):
        item.name = "b"
    with pytest.raises(AttributeError):
        del item.name
    assert item.name == "a"


@BOTH
@pytest.mark.parametrize(
    ("words", "values"), [((), {}), ((), {"size": 1}), (("a",), {}), ((), {"name": "a", "other": 1})]
)
def test_missing_and_unknown_arguments_are_errors(cls, words, values):
    with pytest.raises(TypeError):
        cls(*words, **values)


@BOTH
@pytest.mark.parametrize("replace", [records.replace, dataclasses.replace])
def test_replace_makes_another_one(cls, replace):
    item = cls(name="a", size=1)
    assert replace(item, size=2) == cls(name="a", size=2)
    assert item.size == 1
    with pytest.raises(TypeError):
        replace(item, other=1)


@BOTH
def test_the_standard_library_takes_it_for_one_of_its_own(cls):
    item = cls(name="a")
    assert dataclasses.is_dataclass(item)
    assert [one.name for one in dataclasses.fields(cls)] == ["name", "size", "notes"]
    assert dataclasses.asdict(item) == {"name": "a", "size": 7, "notes": {}}


@pytest.mark.parametrize("dataclass", [records.dataclass, dataclasses.dataclass])
def test_positional_and_hashable(dataclass):
    @dataclass(frozen=True, slots=True)
    class Pair:
        left: int
        right: int = 2

    assert (Pair(1).right, Pair(1, 3).right, Pair(1, right=4).right) == (2, 3, 4)
    assert Pair(1) == Pair(left=1, right=2)
    assert {Pair(1, 2): "a"}[Pair(1, 2)] == "a"
    with pytest.raises(TypeError):
        Pair(1, 2, 3)


@pytest.mark.parametrize("dataclass", [records.dataclass, dataclasses.dataclass])
def test_values_are_checked_when_it_is_made(dataclass):
    @dataclass(frozen=True, slots=True, kw_only=True)
    class Share:
        size: int = 1
        of: int = 2

        def __post_init__(self):
            if self.size > self.of:
                raise ValueError(self.size)

    assert (Share().size, Share(size=2).size, Share(size=3, of=4).size) == (1, 2, 3)
    for values in ({"size": 3}, {"size": 3, "of": 2}):
        with pytest.raises(ValueError, match="3"):
            Share(**values)
    for replace in (records.replace, dataclasses.replace):
        with pytest.raises(ValueError, match="9"):
            replace(Share(), size=9)


@BOTH
def test_the_values_by_name(cls):
    if hasattr(cls, "__slots__"):
        assert records.asdict(cls(name="a", size=1)) == dataclasses.asdict(cls(name="a", size=1))


@pytest.mark.starts_processes
@pytest.mark.parametrize("module", ["dataclasses", "inspect", "typing", "pathlib", "shutil", "unicodedata"])
def test_a_check_of_this_host_starts_without(module, tmp_path):
    """Each takes a good part of the time that Python itself takes to start.

    With -q, because without it `check` says what a guest needs here, where this host cannot start units.
    """
    script = (
        "import sys\nbefore = set(sys.modules)\nimport io, contextlib\nfrom cgroup_preflight.cli import main\n"
        "with contextlib.redirect_stdout(io.StringIO()): main(['check', '-q'])\n"
        f"print({module!r} in set(sys.modules) - before)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout == "False\n", done.stderr
