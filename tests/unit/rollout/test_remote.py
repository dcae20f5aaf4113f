"""Where a rollout of another machine keeps its files."""

import os
import stat
from dataclasses import replace
from types import SimpleNamespace

import pytest

from cgroup_preflight.core.errors import HostError
from cgroup_preflight.core.reading import Known, Missing, Why
from cgroup_preflight.engines.choice import EngineChoice
from cgroup_preflight.engines.session import local_door
from cgroup_preflight.host.command import Completed
from cgroup_preflight.rollout.remote import folder_of, host_behind, make_folder


class Programs:
    """Answers one command."""

    def __init__(self, said):
        self.said = said

    def run(self, argv, *, timeout=20.0, stdin=b""):
        assert argv == ("printenv", "HOME")
        if self.said is None:
            return Missing(source=argv[0], why=Why.ABSENT)
        return Known(value=Completed(argv=argv, returncode=0, stdout=self.said, stderr=""), source=argv[0])


def behind(home, uid=1000):
    """A host; its files are those of this machine."""
    facts = SimpleNamespace(
        uid=Known(value=uid, source="x"), cgroup_mount=Known(value="/sys/fs/cgroup", source="x"),
        mount_point="/sys/fs/cgroup", page_size=4096,
    )  # fmt: skip
    door = replace(local_door({}), host="me@far", programs=Programs(home))
    return host_behind(door, facts, EngineChoice(name="systemd", sudo=True), None, lambda _: None)


def test_each_host_has_a_folder_of_its_own_whatever_its_name():
    names = ("far", "me@far", "..", ".", "a/b", "[fe80::1%eth0]", "ü")
    folders = [folder_of("/s", name) for name in names]
    assert len(set(folders)) == len(names)
    assert folders[1] == "/s/hosts/me@far"
    for folder in folders:
        assert os.path.dirname(os.path.normpath(folder)) == "/s/hosts"


def test_what_the_timer_needs_is_on_the_host_and_the_hooks_are_here():
    host = behind("/home/me\n")
    assert host.folder == "/home/me/.local/state/cgroup-preflight/rollout"
    assert host.hooks is not host.door.programs
    assert behind("/root\n", uid=0).folder == "/var/lib/cgroup-preflight/rollout"


@pytest.mark.parametrize("home", [None, "", "me", "/a/../b", "/a\x1b[2J"])
def test_a_user_without_a_home_is_an_error(home):
    with pytest.raises(HostError, match="no home"):
        behind(home)


def test_a_folder_that_others_may_write_to_is_not_used(tmp_path):
    host = behind(str(tmp_path))
    make_folder(host, os.geteuid())
    assert stat.S_IMODE(os.stat(host.folder).st_mode) == 0o700
    with pytest.raises(HostError, match="others"):
        make_folder(host, os.geteuid() + 1)
    os.chmod(host.folder, 0o770)
    with pytest.raises(HostError, match="others"):
        make_folder(host, os.geteuid())
