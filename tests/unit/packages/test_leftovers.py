"""What stays after a removal, found in a tree of files and a /proc of the test's own."""

import os

import pytest

from cgroup_preflight.core.reading import Known, Missing, Why
from cgroup_preflight.host.command import Completed
from cgroup_preflight.packages.leftovers import left_accounts, left_files, left_processes, left_units, scene


def put(root, *paths):
    for path in paths:
        (root / path[1:]).parent.mkdir(parents=True, exist_ok=True)
        (root / path[1:]).write_text("x")


def test_new_files_are_found_and_those_of_the_system_are_not(tmp_path):
    put(tmp_path, "/usr/bin/old", "/etc/passwd", "/var/lib/dpkg/status")
    before = scene(str(tmp_path))
    assert before.paths == {"/usr/bin/old"}
    put(tmp_path, "/usr/bin/shop", "/etc/shop.conf", "/var/lib/shop/data", "/var/lib/dpkg/info/shop.list", "/etc/group-",
        "/var/log/dpkg.log", "/usr/lib/x/__pycache__/a.pyc", "/tmp/x", "/opt/shop/file", "/etc/passwd+")  # fmt: skip
    (tmp_path / "etc/systemd").mkdir()
    (tmp_path / "etc/systemd/link").symlink_to("/nowhere")
    after = scene(str(tmp_path))
    files, data = left_files(before, after, frozenset({"/opt/shop/file"}))
    assert files == ("/etc/shop.conf", "/etc/systemd/link", "/opt/shop/file", "/usr/bin/shop")
    assert data == ("/var/lib/shop/data",)


def test_a_file_that_its_package_names_by_the_old_folder_is_one_of_the_package(tmp_path):
    before = scene(str(tmp_path))
    put(tmp_path, "/usr/lib/systemd/system/shop.service")
    files, _ = left_files(before, scene(str(tmp_path)), frozenset({"/lib/systemd/system/shop.service"}))
    assert files == ("/usr/lib/systemd/system/shop.service",)


def test_users_and_groups_are_listed(tmp_path):
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").write_text("root:x:0\n")
    before = scene(str(tmp_path))
    (tmp_path / "etc/passwd").write_text("root:x:0\nshop:x:999\n")
    (tmp_path / "etc/group").write_text("shop:x:999\n")
    assert left_accounts(before, scene(str(tmp_path))) == ("user shop", "group shop")


@pytest.mark.parametrize(
    ("exe", "words", "found"),
    [
        ("/usr/bin/shop (deleted)", ["shop"], True),
        ("/usr/bin/shop", ["x"], True),
        ("/usr/sbin/shopd (deleted)", ["shopd"], True),  # the package has /sbin/shopd
        ("/usr/bin/python3", ["python3", "/usr/lib/shop/serve.py"], True),
        ("/usr/bin/python3", ["python3", "/usr/lib/other.py"], False),
    ],
)
def test_processes_of_removed_files_are_found(tmp_path, exe, words, found):
    (tmp_path / "77").mkdir()
    (tmp_path / "self").mkdir()
    os.symlink(exe, tmp_path / "77/exe")
    (tmp_path / "77/cmdline").write_bytes("\0".join(words).encode() + b"\0")
    seen = left_processes(frozenset({"/usr/bin/shop", "/sbin/shopd", "/usr/lib/shop/serve.py"}), str(tmp_path))
    assert seen == ((f"77 ({' '.join(words)})",) if found else ())


def test_units_that_are_active_or_failed_are_left():
    class Systemctl:
        def run(self, argv, *, timeout=0.0, stdin=b""):
            text = "Id=a.service\nActiveState=failed\n\nId=b.service\nActiveState=inactive\n\nId=c.socket\nActiveState=active\n"
            return Known(value=Completed(argv=argv, returncode=0, stdout=text, stderr=""), source="systemctl")

    assert left_units(Systemctl(), ("a.service", "b.service", "c.socket")) == (
        "a.service (failed)",
        "c.socket (active)",
    )
    assert left_units(Systemctl(), ()) == ()


_ONE = "Id=a.service\nActiveState=inactive\n"


@pytest.mark.parametrize(
    ("answer", "silent"),
    [
        (Missing(source="systemctl", why=Why.FAILED), ("a.service", "b.socket")),
        (
            Known(value=Completed(argv=(), returncode=1, stdout="", stderr="no bus"), source="x"),
            ("a.service", "b.socket"),
        ),
        (Known(value=Completed(argv=(), returncode=1, stdout=_ONE, stderr="?"), source="x"), ("b.socket",)),
        (Known(value=Completed(argv=(), returncode=0, stdout=f"{_ONE}\n{_ONE}", stderr=""), source="x"), ()),
    ],
)
def test_a_manager_that_does_not_answer_is_not_a_machine_without_units(answer, silent):
    class Systemctl:
        def run(self, argv, *, timeout=0.0, stdin=b""):
            return answer

    found = left_units(Systemctl(), ("a.service", "b.socket"))
    assert found == tuple(f"{unit} (systemd does not tell its state)" for unit in silent)
