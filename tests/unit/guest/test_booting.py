"""A guest that ends while it boots is booted once more; a mock, since no kernel panics when it is asked to."""

from typing import Self

import pytest

from cgroup_preflight.core.report import Remedy
from cgroup_preflight.guest import run as guest_engine
from cgroup_preflight.guest.spec import GuestError


class Panicking:
    """Ends on its way as often as `ends` says."""

    def __init__(self, ends: int) -> None:
        self.ends = ends
        self.booted = 0

    def __call__(self, _spec: object, _image: object) -> "Panicking":
        return self

    def __enter__(self) -> Self:
        self.booted += 1
        if self.booted <= self.ends:
            raise GuestError("debian-13 guest (qemu) ended (booting)", remedy=Remedy(title="read the console lines"))
        return self

    def __exit__(self, *_: object) -> None:
        return


def test_a_guest_that_panics_once_is_booted_again_and_that_is_said(monkeypatch):
    guest, said = Panicking(1), []
    monkeypatch.setattr(guest_engine, "Guest", guest)
    with guest_engine._booted(None, None, said.append) as (booted, lost):
        assert booted is guest
        assert lost == "debian-13 guest (qemu) ended (booting)"
    assert said == ["debian-13 guest (qemu) ended (booting); booting once more"]


def test_one_that_boots_at_once_says_nothing(monkeypatch):
    monkeypatch.setattr(guest_engine, "Guest", Panicking(0))
    with guest_engine._booted(None, None, pytest.fail) as (_, lost):
        assert lost == ""


@pytest.mark.parametrize(("again_within", "boots"), [(60.0, 2), (-1.0, 1)])
def test_twice_is_lost_and_so_is_one_that_took_its_time(monkeypatch, again_within, boots):
    guest = Panicking(2)
    monkeypatch.setattr(guest_engine, "Guest", guest)
    monkeypatch.setattr(guest_engine, "_BOOT_AGAIN_SECONDS", again_within)
    with pytest.raises(GuestError), guest_engine._booted(None, None, lambda _: None):
        pass
    assert guest.booted == boots
