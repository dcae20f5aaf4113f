"""GOMEMLIMIT of running processes, on a tree of files."""

import pytest

from cgroup_preflight.host.fs import LiveFs
from cgroup_preflight.rollout.go_limits import live_limits


@pytest.fixture
def tree(tmp_path):
    def process(pid, cgroup, environ):
        folder = tmp_path / "mount" / cgroup.strip("/")
        folder.mkdir(parents=True, exist_ok=True)
        with open(folder / "cgroup.procs", "a") as file:
            file.write(f"{pid}\n")
        (tmp_path / "proc" / str(pid)).mkdir(parents=True)
        (tmp_path / "proc" / str(pid) / "environ").write_bytes(environ)

    return process


def test_the_largest_limit_of_each_service_counts(tree, tmp_path):
    tree(1, "/api.slice/a.service", b"PATH=/bin\0GOMEMLIMIT=100MiB\0")
    tree(2, "/api.slice/a.service", b"GOMEMLIMIT=200MiB\0")
    tree(3, "/api.slice/b.service", b"GOMEMLIMIT=off\0")
    tree(4, "/api.slice/c.service", b"GOMEMLIMIT=900M\0")
    tree(5, "/api.slice/d.service/inner", b"X_GOMEMLIMIT=5\0")
    tree(6, "/db.slice/e.service", b"GOMEMLIMIT=100MiB\0")
    fs = LiveFs(str(tmp_path))
    assert live_limits(fs, "/mount", "/api.slice") == {"a.service": 200 << 20}
    assert live_limits(fs, "/mount", "/none.slice") == {}
