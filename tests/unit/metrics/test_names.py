"""Paths of cgroups and the names of slices and units."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cgroup_preflight.metrics.names import Labels, is_slice, labels, slice_path


@pytest.mark.parametrize(
    ("path", "slice_name", "unit"),
    [
        ("", "-.slice", ""),
        ("/system.slice", "system.slice", ""),
        ("/system.slice/cron.service", "system.slice", "cron.service"),
        ("/system.slice/system-getty.slice/getty@tty1.service", "system-getty.slice", "getty@tty1.service"),
        ("/init.scope", "-.slice", "init.scope"),
        ("/user.slice/user-0.slice/user@0.service/app.slice/x.service", "user-0.slice", "user@0.service/app.slice/x.service"),
        ("/a.slice/_cpu.foo.service", "a.slice", "cpu.foo.service"),
        ("/docker/_0123", "-.slice", "docker/_0123"),
    ],
)  # fmt: skip
def test_labels(path: str, slice_name: str, unit: str) -> None:
    assert labels(path) == Labels(slice=slice_name, unit=unit)
    assert is_slice(path) is (unit == "")


@pytest.mark.parametrize(
    ("name", "path"),
    [("-.slice", ""), ("a.slice", "/a.slice"), ("a-b-c.slice", "/a.slice/a-b.slice/a-b-c.slice")],
)
def test_path_of_a_slice(name: str, path: str) -> None:
    assert slice_path(name) == path
    assert labels(path).slice == name


@pytest.mark.parametrize("name", ["a.service", "a--b.slice", "-a.slice", "a-.slice", "../a.slice", ".slice", ""])
def test_what_is_not_the_name_of_a_slice(name: str) -> None:
    with pytest.raises(ValueError, match="not the name of a slice"):
        slice_path(name)


_NAMES = st.lists(st.text("abc_.-", min_size=1).filter(lambda text: text not in (".", "..")), max_size=5)


@given(_NAMES)
def test_other_slices_never_take_the_labels_of_a_unit(names: list[str]) -> None:
    found = labels("".join(f"/{name}" for name in names))
    assert found.slice.endswith(".slice")
    assert found.unit.count("/") <= max(len(names) - 1, 0)
