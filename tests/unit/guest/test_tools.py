"""What is missing is named in one line, for the distribution that this is."""

import pytest

from cgroup_preflight.core.errors import HostError
from cgroup_preflight.guest import qemu, tools

DEBIAN = 'ID=debian\nVERSION_ID="12"\n'


@pytest.fixture
def bare(monkeypatch):
    """A host without any of the programs."""
    monkeypatch.setattr(tools, "_SEARCH_PATH", "/nowhere")
    return monkeypatch


@pytest.mark.parametrize(
    ("release", "missing", "words"),
    [
        (DEBIAN, ["linux.uml", "mmdebstrap"], "apt-get install user-mode-linux mmdebstrap"),
        ('ID=linuxmint\nID_LIKE="ubuntu debian"\n', ["mke2fs"], "apt-get install e2fsprogs"),
        ("ID=fedora\n", ["qemu-system-x86_64"], "fedora: dnf install qemu-system-x86-core"),
        ('ID=rocky\nID_LIKE="rhel centos fedora"\n', ["linux.uml"], "fedora has only qemu-system-x86-core"),
        ("", ["linux.uml"], "Debian and Ubuntu: apt-get install user-mode-linux"),
    ],
)
def test_one_line_for_each_distribution(bare, release, missing, words):
    bare.setattr(tools, "_read_os_release", lambda: release)
    with pytest.raises(HostError) as caught:
        tools.require(missing)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "Containerfile" in caught.value.remedy.title


def test_nothing_is_installed_by_others_than_root(bare):
    bare.setattr(tools.os, "geteuid", lambda: 1000)
    bare.setattr(tools, "_read_os_release", lambda: DEBIAN)
    with pytest.raises(HostError, match="apt-get install"):
        tools.install(["linux.uml"])


def test_what_is_there_is_not_installed(monkeypatch):
    monkeypatch.setattr(tools, "is_installed", lambda _program: True)
    tools.install(["linux.uml"])
    tools.require(["linux.uml"])


def test_an_odd_os_release_is_no_error():
    assert tools._os_ids("no equals sign\n=\nID='x'\nID_LIKE=\n") == ("'x'",)


def test_kvm_is_not_tried_without_its_device(monkeypatch, tmp_path):
    monkeypatch.setattr(qemu, "_KVM", str(tmp_path / "kvm"))
    monkeypatch.setattr(qemu, "works", lambda: pytest.fail("tried"))
    assert qemu.accelerator(tmp_path) == "tcg"


@pytest.mark.parametrize(("works", "name"), [(True, "kvm"), (False, "tcg")])
def test_kvm_is_tried_once(monkeypatch, tmp_path, works, name):
    (tmp_path / "kvm").touch()
    monkeypatch.setattr(qemu, "_KVM", str(tmp_path / "kvm"))
    tried = []
    monkeypatch.setattr(qemu, "works", lambda: tried.append(1) or works)
    (tmp_path / ".kvm-of-an-earlier-boot").write_text("kvm")
    assert [qemu.accelerator(tmp_path) for _ in range(3)] == [name] * 3
    assert tried == [1]
    assert not (tmp_path / ".kvm-of-an-earlier-boot").exists()
