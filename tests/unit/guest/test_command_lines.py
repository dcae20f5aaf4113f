"""What is handed to the engines and to mmdebstrap."""

import itertools
import shlex
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from cgroup_preflight.core.errors import UsageError
from cgroup_preflight.guest.qemu import QemuMachine, qemu_argv
from cgroup_preflight.guest.recipe import SUITES, build_argv, recipe_for
from cgroup_preflight.guest.spec import BootMode, GuestEngine, GuestSpec
from cgroup_preflight.guest.uml import UmlMachine, uml_argv

UML = UmlMachine(
    program="linux.uml",
    root=Path("/cache/root.ext4"),
    input=Path("/scratch/g1/input.ext4"),
    work=Path("/scratch/g1"),
    line_fds=(7, 9),
    memory_mib=256,
    mode=BootMode.FULL,
)
QEMU = QemuMachine(
    program="qemu-system-x86_64",
    kernel=Path("/cache/vmlinuz"),
    initrd=Path("/cache/initrd"),
    root=Path("/cache/root.ext4"),
    input=Path("/scratch/g1/input.ext4"),
    line_fds=(7, 9),
    cpus=4,
    memory_mib=1024,
    mode=BootMode.FULL,
)


def test_uml_keeps_to_its_own_folder():
    argv = uml_argv(UML)
    assert {"umid=g1", "uml_dir=/scratch/g1/", "hostfs=/scratch/g1/empty"} <= set(argv)
    assert "ubd0=/scratch/g1/root.cow,/cache/root.ext4" in argv
    assert "ubd1=/scratch/g1/input.ext4" in argv
    assert not any(word.startswith(("eth", "vec")) for word in argv)


def test_uml_line_is_the_handed_descriptor():
    assert {"ssl0=fd:7,fd:7", "ssl1=fd:9,fd:9"} <= set(uml_argv(UML))


@pytest.mark.parametrize("mode", BootMode)
def test_quick_boot_differs_by_target_and_units(mode):
    words = uml_argv(replace(UML, mode=mode))
    assert f"systemd.unit={mode}" in words
    assert any(word.startswith("SYSTEMD_UNIT_PATH=") for word in words) is (mode is BootMode.QUICK)


def test_own_kernel_arguments_come_last():
    assert uml_argv(replace(UML, kernel_args=("psi=0", "x")))[-2:] == ("psi=0", "x")
    argv = qemu_argv(replace(QEMU, kernel_args=("psi=0",)))
    assert argv[argv.index("-append") + 1].endswith(" psi=0")


def test_qemu_never_asks_for_kvm_unless_told():
    assert any(word.startswith("tcg,") for word in qemu_argv(QEMU))
    assert not any("kvm" in word for word in qemu_argv(QEMU))
    assert "kvm" in qemu_argv(replace(QEMU, accelerator="kvm"))


def test_what_spares_an_emulated_cpu_is_not_for_a_real_one():
    emulated, real = (" ".join(qemu_argv(replace(QEMU, accelerator=name))) for name in ("tcg", "kvm"))
    for word in ("max,-erms", "lpj=2000000", "tsc=unstable"):
        assert word in emulated
        assert word not in real
    assert "-cpu max -smp" in real


def test_qemu_has_no_network_and_leaves_the_root_alone():
    argv = qemu_argv(QEMU)
    assert "-nodefaults" in argv
    assert not any(word.startswith(("-nic", "-net")) for word in argv)
    assert "if=none,id=root,file=/cache/root.ext4,format=raw,snapshot=on" in argv


def test_qemu_has_only_devices_whose_state_it_can_save():
    devices = [
        word for before, word in itertools.pairwise(qemu_argv(replace(QEMU, network=True))) if before == "-device"
    ]
    assert devices
    assert {word.split(",")[0] for word in devices} <= {
        "virtio-serial-pci", "virtserialport", "virtio-blk-pci", "virtio-net-pci"
    }  # fmt: skip


def test_a_machine_that_pauses_can_write_nothing_before_and_has_a_monitor():
    plain, paused = qemu_argv(QEMU), qemu_argv(replace(QEMU, paused=True, monitor_fd=9))
    assert "-mon" not in plain
    assert "chardev=monitor,mode=control" in paused
    assert "socket,id=monitor,fd=9" in paused
    kernel_args = [argv[argv.index("-append") + 1].split() for argv in (plain, paused)]
    assert set(kernel_args[1]) - set(kernel_args[0]) == {"rdinit=/init-ro", "preflight.pause"}
    assert set(qemu_argv(replace(QEMU, paused=True, monitor_fd=9, resumed=True))) - set(paused) == {
        "-incoming",
        "defer",
    }


def test_qemu_paths_may_hold_commas():
    argv = qemu_argv(replace(QEMU, root=Path("/a,b/root.ext4")))
    assert any("file=/a,,b/root.ext4," in word for word in argv)


@pytest.mark.parametrize("distro", SUITES)
def test_recipe_key_is_stable_and_follows_the_content(distro):
    recipe = recipe_for(distro)
    assert recipe.key == recipe_for(distro).key
    assert recipe.name == f"{distro}-{recipe.key}"
    others = [
        recipe_for(distro, with_kernel=True),
        replace(recipe, scripts=()),
        replace(recipe, files=recipe.files[1:]),
    ]
    assert len({recipe.key, *(other.key for other in others)}) == 4


def test_distributions_have_different_keys():
    assert len({recipe_for(distro).key for distro in SUITES}) == len(SUITES)


def test_unknown_distribution_is_the_callers_mistake():
    with pytest.raises(UsageError, match="'beos'") as caught:
        recipe_for("beos")
    assert "debian-12" in caught.value.remedy.title


def test_the_build_takes_packages_of_one_release_with_debians_keys():
    script = build_argv(recipe_for("debian-13", with_kernel=True))[2]
    (download,) = [line for line in script.splitlines() if line.startswith("mmdebstrap ")]
    words = shlex.split(download)
    assert words[-3:] == ["$@", "trixie", "root"]
    assert "--keyring=/usr/share/keyrings/debian-archive-keyring.gpg" in words
    assert any(word.startswith("--extract-hook=") and word.endswith(" linux-image-cloud-amd64") for word in words)
    assert not any("unauthenticated" in word.lower() or "insecure" in word.lower() for word in words)
    assert "linux-image" not in build_argv(recipe_for("debian-13"))[2]


@pytest.mark.starts_processes
@pytest.mark.parametrize(
    ("said", "options"),
    [("checked='false'", '<--aptopt=Acquire::Check-Valid-Until "false">'), ("checked='true'", ""), ("", "")],
)
def test_old_package_lists_are_accepted_where_apt_of_this_host_accepts_them(tmp_path, said, options):
    """Stand-ins: both programs need a system with apt, and the second the network."""
    for name, text in (
        ("apt-config", f'echo "{said}"'),
        ("mmdebstrap", 'for word; do echo "<$word>"; done; exit 9'),
    ):
        program = tmp_path / name
        program.write_text(f"#!/bin/sh\n{text}\n")
        program.chmod(0o755)
    lines = build_argv(recipe_for("debian-14"))[2].splitlines()
    script = "\n".join(lines[lines.index("size=$1") :])
    done = subprocess.run(["sh", "-euc", script, "build", "2048"], env={"PATH": f"{tmp_path}:/usr/bin:/bin"}, cwd=tmp_path,
                          capture_output=True, text=True, timeout=30, check=False)  # fmt: skip
    assert done.returncode == 9
    assert ('<--aptopt=Acquire::Check-Valid-Until "false">' in done.stdout) == bool(options)
    assert done.stdout.endswith("<forky>\n<root>\n")


def test_a_kernel_from_backports_is_the_only_package_of_that_suite():
    recipe = recipe_for("debian-13", with_kernel=True, kernel="backports", packages=("redis-server",))
    assert (recipe.moving, recipe.backports) == (True, "trixie-backports")
    script = build_argv(recipe)[2]
    (download,) = [line for line in script.splitlines() if line.startswith("mmdebstrap ")]
    assert " linux-image-cloud-amd64/trixie-backports redis-server" in download
    assert download.count("trixie-backports") == 2
    assert recipe.key != recipe_for("debian-13", with_kernel=True, packages=("redis-server",)).key
    # user-mode-linux is its own kernel: the key has no effect there.
    assert recipe_for("debian-13", kernel="backports") == recipe_for("debian-13")
    with pytest.raises(UsageError, match="debian-12 has no kernel from backports") as caught:
        recipe_for("debian-12", with_kernel=True, kernel="backports")
    assert "debian-13" in caught.value.remedy.title


@pytest.mark.starts_processes
def test_the_suite_of_backports_has_the_options_of_the_others(tmp_path):
    """mmdebstrap's own sources say by which keys they are signed; so does the added one, in a file of its own."""
    (download,) = [
        line
        for line in build_argv(recipe_for("debian-13", with_kernel=True, kernel="backports"))[2].splitlines()
        if line.startswith("mmdebstrap ")
    ]
    # The last one downloads the lists: those of the added suite, too.
    hook, _ = [word.partition("=")[2] for word in shlex.split(download) if word.startswith("--setup-hook=")]
    parts = tmp_path / "etc/apt/sources.list.d"
    parts.mkdir(parents=True)
    (tmp_path / "etc/apt/sources.list").write_text(
        'deb [signed-by="/k.gpg"] http://deb.debian.org/debian trixie main\n'
        'deb [signed-by="/k.gpg"] http://deb.debian.org/debian trixie-updates main\n'
    )
    subprocess.run(["sh", "-euc", hook, "sh", tmp_path], check=True, timeout=30)
    (added,) = parts.iterdir()
    assert added.read_text() == 'deb [signed-by="/k.gpg"] http://deb.debian.org/debian trixie-backports main\n'


@pytest.mark.parametrize("seccomp", [True, False])
def test_processes_run_under_seccomp_only_where_the_host_confines_the_whole(seccomp):
    assert f"seccomp={'auto' if seccomp else 'off'}" in uml_argv(replace(UML, seccomp=seccomp))


def test_user_mode_linux_has_one_cpu():
    with pytest.raises(ValueError, match="one CPU"):
        GuestSpec(cpus=2)
    assert GuestSpec(engine=GuestEngine.QEMU, cpus=2).cpus == 2


def test_the_state_of_user_mode_linux_cannot_be_saved(tmp_path):
    with pytest.raises(ValueError, match="cannot be saved"):
        GuestSpec(states=tmp_path)
    assert GuestSpec(engine=GuestEngine.QEMU, states=tmp_path).states == tmp_path
