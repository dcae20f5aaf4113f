"""The light dataclasses are those of the standard library in all that is used of them."""

import dataclasses

import pytest

from cgroup_preflight.core import records


def made(dataclass, field):
    """One class, made by the one library or by the other."""

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
    "cls", [made(records.dataclass, records.field), made(dataclasses.dataclass, dataclasses.field)]
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
    assert cls(name="a") == cls(name="a", size=7)
    assert cls(name="a") != cls(name="b")
    assert cls(name="a") != "a"
    assert hash(cls(name="a", notes=())) == hash(cls(name="a", notes=()))


@BOTH
def test_frozen(cls):
    item = cls(name="a")
    with pytest.raises(AttributeError):
        item.name = "b"
    with pytest.raises(AttributeError):
        del item.name


@BOTH
@pytest.mark.parametrize(("words", "values"), [((), {}), (("a",), {}), ((), {"name": "a", "other": 1})])
def test_what_is_missing_or_too_much_is_an_error(cls, words, values):
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
    assert [one.name for one in dataclasses.fields(item)] == ["name", "size", "notes"]


def test_positional_where_the_class_says_so():
    @records.dataclass(frozen=True, slots=True)
    class Pair:
        left: int
        right: int = 2

    assert (Pair(1).right, Pair(1, 3).right, Pair(1, right=4).right) == (2, 3, 4)
    with pytest.raises(TypeError):
        Pair(1, 2, 3)
