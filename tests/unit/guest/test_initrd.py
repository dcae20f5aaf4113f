"""The initial RAM disk: which modules go in, and a program that does what it says, run here without any right."""

import lzma
import os
import subprocess

import pytest

from cgroup_preflight.core.errors import HostError
from cgroup_preflight.guest import initrd, tools, user_network

RING, VIRTIO, PCI, BLOCK, NET = (f"kernel/drivers/{name}" for name in (
    "virtio/virtio_ring.ko", "virtio/virtio.ko", "virtio/virtio-pci.ko.xz", "block/virtio_blk.ko", "net/virtio_net.ko"))  # fmt: skip
FILES = {
    "/usr/lib/modules/": b".\n..\n6.1.0-57-cloud-amd64\n",
    "/usr/lib/modules/6.1.0-57-cloud-amd64/modules.dep": (
        f"{RING}:\n{VIRTIO}: {RING}\n{PCI}: {VIRTIO} {RING}\n{BLOCK}: {VIRTIO} {RING}\nkernel/fs/xfs/xfs.ko: {BLOCK}\n"
        f"{NET}: {RING}\n"
    ).encode(),
    f"/usr/lib/modules/6.1.0-57-cloud-amd64/{RING}": b"ring",
    f"/usr/lib/modules/6.1.0-57-cloud-amd64/{VIRTIO}": b"virtio",
    f"/usr/lib/modules/6.1.0-57-cloud-amd64/{PCI}": lzma.compress(b"pci", check=lzma.CHECK_CRC32),
    f"/usr/lib/modules/6.1.0-57-cloud-amd64/{BLOCK}": b"block",
    f"/usr/lib/modules/6.1.0-57-cloud-amd64/{NET}": b"net",
}


def test_each_module_comes_after_those_that_it_needs():
    assert initrd.drivers(FILES.__getitem__) == (b"ring", b"virtio", b"pci", b"block")


@pytest.mark.parametrize("names", [b"", b".\n..\n", b"6.1\n6.2\n", b"../../etc\n", b"-v\n", b"a;b\n"])
def test_without_the_modules_of_one_kernel_none_is_loaded(names):
    assert initrd.drivers({"/usr/lib/modules/": names}.__getitem__) == ()


def test_what_is_built_in_has_no_module():
    files = {**FILES, "/usr/lib/modules/6.1.0-57-cloud-amd64/modules.dep": f"{RING}:\n{BLOCK}: {RING}\n".encode()}
    assert initrd.drivers(files.__getitem__) == (b"ring", b"block")


def _entries(data):
    """The files of an archive in the format newc: mode, content and device by name."""
    found, at = {}, 0
    while True:
        assert data[at : at + 6] == b"070701"
        fields = [int(data[at + 6 + 8 * n : at + 14 + 8 * n], 16) for n in range(13)]
        name = data[at + 110 : at + 110 + fields[11] - 1].decode()
        at += -(-(110 + fields[11]) // 4) * 4
        if name == "TRAILER!!!":
            return found
        found[name] = (fields[1], data[at : at + fields[6]], tuple(fields[9:11]))
        at += -(-fields[6] // 4) * 4


def test_the_archive_has_inits_with_the_modules_in_them():
    entries = _entries(initrd.archive((b"module one", b"module two!"), (b"of the network",)))
    assert set(entries) == {"dev", "dev/console", "root", "init", "init-ro", "init-foreign"}
    assert entries["dev/console"] == (0o20600, b"", (5, 1))
    assert (entries["root"][0], entries["init"][0]) == (0o40755, 0o100755)
    for name in ("init", "init-ro"):
        assert b"module one" in entries[name][1]
        assert b"module two!" in entries[name][1]
    assert entries["init"][1] != entries["init-ro"][1]
    assert b"of the network" in entries["init-foreign"][1]


def test_a_root_from_elsewhere_gets_all_modules_and_becomes_its_own_systemd():
    """Paths of the root are opened once it is /: those of the initial RAM disk have no links of it in them."""
    program = initrd.foreign_init((b"module",))
    texts = [b"/dev/vdc", b"/root/run", b"/root", b"/lib/modules", b"/run/usr/lib/modules", b"/lib/modules", b"/run",
             b"/usr/lib/systemd/systemd", b"/lib/systemd/systemd"]  # fmt: skip
    places = [program.index(text + b"\0", 0) for text in texts]
    assert all(places)
    assert b"/sbin/init" not in program
    for _, content in user_network.IOCTLS:
        assert content in program
    assert b"/dev/vdc" not in initrd.init((b"module",), 0)


@pytest.mark.starts_processes
@pytest.mark.skipif(os.geteuid() == 0, reason="it would load modules and mount here")
def test_without_rights_it_ends_with_an_error(tmp_path):
    (tmp_path / "init").write_bytes(initrd.init((b"no module",), 1))
    (tmp_path / "init").chmod(0o755)
    assert subprocess.run([tmp_path / "init"], timeout=10, check=False).returncode == 1


def _image(folder, files):
    for name, content in files.items():
        if not name.endswith("/"):
            (folder / "tree" / name[1:]).parent.mkdir(parents=True, exist_ok=True)
            (folder / "tree" / name[1:]).write_bytes(content)
    argv = [tools.find("mke2fs"), "-q", "-t", "ext4", "-d", folder / "tree", folder / "root.ext4", "8M"]
    subprocess.run(argv, check=True, timeout=60)


@pytest.mark.starts_processes
def test_modules_are_read_from_the_file_system_of_an_image(tmp_path):
    _image(tmp_path, FILES)
    assert initrd.found_in(tmp_path) is None
    initrd.write(tmp_path)
    entries = _entries((tmp_path / "initrd").read_bytes())
    assert entries["init"][1] == initrd.init((b"ring", b"virtio", b"pci", b"block"), 0)
    assert entries["init-foreign"][1] == initrd.foreign_init((b"ring", b"virtio", b"pci", b"block", b"net"))
    assert initrd.found_in(tmp_path) == tmp_path / "initrd"


@pytest.mark.starts_processes
def test_a_module_that_the_image_lacks_is_an_error(tmp_path):
    _image(tmp_path, {name: content for name, content in FILES.items() if not name.endswith(BLOCK)})
    with pytest.raises(HostError, match=r"modules in the image: .*virtio_blk\.ko: File not found"):
        initrd.write(tmp_path)
