"""Sources that change, with a watcher that is played: the real one is an optional dependency."""

import sys
import threading
import time

import pytest

from cgroup_preflight.core.errors import HostError, UsageError
from cgroup_preflight.host.local import LocalFiles
from cgroup_preflight.up.build import Build
from cgroup_preflight.up.session import Wishes, rebuilt
from cgroup_preflight.up.stream import Prefixes, Stream
from cgroup_preflight.up.watching import Watching, find_watch


class Watch:
    """Yields what a test puts in; ends when it is told to."""

    def __init__(self, *changes, error=None):
        self.changes, self.error, self.folders = changes, error, ()
        self.over = threading.Event()

    def __call__(self, *folders, stop_event, raise_interrupt):
        assert raise_interrupt is False
        self.folders = folders
        yield from self.changes
        if self.error is not None:
            raise self.error
        stop_event.wait(20)
        self.over.set()


def until(watching):
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        if found := watching.changed():
            return found
        time.sleep(0.01)
    return ()


def test_only_sources_of_go_count():
    watch = Watch({(1, "/src/README.md")}, {(1, "/src/b.go"), (2, "/src/a.go"), (1, "/src/dist/web")})
    watching = Watching(["/src"], watch)
    assert until(watching) == ("/src/a.go", "/src/b.go")
    assert watch.folders == ("/src",)
    watching.end()
    assert watch.over.is_set()


def test_the_limit_of_inotify_is_one_line_with_the_remedy():
    watching = Watching(["/src"], Watch(error=OSError("OS file watch limit reached")))
    with pytest.raises(HostError, match="cannot watch: OS file watch limit reached") as caught:
        until(watching)
    assert any("fs.inotify.max_user_watches" in word for command in caught.value.remedy.commands for word in command)
    watching.end()


def test_without_watchfiles_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "watchfiles", None)
    with pytest.raises(UsageError, match="watchfiles is not installed") as caught:
        find_watch()
    assert "cgroup-preflight[watch]" in caught.value.remedy.title


@pytest.fixture
def project(tmp_path):
    for name in ("web", "api"):
        (tmp_path / name).write_text("old")
    said = []
    stream = Stream(Prefixes(["web", "api"], colour=False), {}, said.append, LocalFiles())
    programs = {name: str(tmp_path / name) for name in ("web", "api")}

    def build(script):
        one = Build(command=("/bin/sh", "-c", script), folder=str(tmp_path), services=("web",))
        differ = rebuilt(stream, Wishes(builds=(one,), programs=programs), ["/src/a.go", "/src/b.go"])
        return differ, "".join(said)

    return build


@pytest.mark.starts_processes
def test_only_services_whose_program_differs_start_again(project):
    restarted, said = project("echo new >web")
    assert restarted == ("web",)
    assert "/src/a.go and 1 more changed" in said


@pytest.mark.starts_processes
def test_a_build_that_changes_nothing_restarts_nothing(project):
    restarted, said = project("printf old >web")
    assert restarted == ()
    assert "no program differs" in said


@pytest.mark.starts_processes
def test_a_build_that_fails_leaves_the_service_as_it_was(project):
    restarted, said = project("echo 'a.go:1: syntax error'; exit 1")
    assert restarted == ()
    assert "the build of web failed: exit status 1; it runs on as it was" in said
    assert "a.go:1: syntax error" in said


@pytest.mark.starts_processes
def test_a_build_that_removes_the_program_restarts_nothing(project):
    assert project("rm web")[0] == ()
