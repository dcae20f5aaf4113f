"""Guests of `guest run` and `guest shell` with an imported root: its machine, its kernel, and what it cannot do."""

from pathlib import Path

import pytest

from cgroup_preflight.cli import guest, guest_import
from cgroup_preflight.core.errors import UsageError
from cgroup_preflight.guest import foreign_kernel
from cgroup_preflight.guest.image import RootImage, cache_folder
from cgroup_preflight.guest.spec import GuestEngine
from tests.unit.guest.test_foreign import put

NAME = "ubuntu-24.04"
KERNEL = RootImage(name="debian-13-fedcba9876543210", root=Path("/k/root.ext4"), kernel=Path("/k/vmlinux"))


@pytest.fixture
def made(tmp_path, monkeypatch):
    """Makes the guest of these words; the kernels that were asked for."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    put(cache_folder({"XDG_CACHE_HOME": str(tmp_path)}), f"{NAME}-0123456789abcdef")
    asked = []
    monkeypatch.setattr(
        foreign_kernel.image, "ensure", lambda recipe, *_, **__: asked.append(recipe.backports) or KERNEL
    )

    def make(*words):
        args = guest.arguments().parse_args(["run", "--distro", NAME, *words, "--", "true"])
        return guest_import.imported_guest(args, {})

    return make, asked


@pytest.mark.parametrize(
    ("words", "engine", "kernels"),
    [
        ((), GuestEngine.UML, []),
        (("--machine", "qemu"), GuestEngine.QEMU, [""]),
        (("--machine", "qemu", "--kernel", "backports"), GuestEngine.QEMU, ["trixie-backports"]),
    ],
)
def test_the_machine_that_was_asked_for(made, words, engine, kernels):
    one = made[0](*words)
    assert (one.spec.engine, one.spec.cpus, made[1]) == (engine, 2 if kernels else 1, kernels)
    assert one._image.kernel_image == (KERNEL if kernels else None)


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("--kernel", "backports"), "user-mode-linux has a kernel of its own"),
        (("--package", "redis-server"), "is an imported root, with the packages that it has"),
    ],
)
def test_what_it_cannot_do(made, words, why):
    with pytest.raises(UsageError, match=why) as error:
        made[0](*words)
    assert error.value.remedy.title
    assert made[1] == []
