"""The engine cgroupfs in containers with a cgroup of their own: systemd-nspawn, and podman without root."""

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from cgroup_preflight.guest import image
from cgroup_preflight.guest.session import Guest, input_path
from tests.lab import cgroupfs_job as job
from tests.lab.cgroupfs_job import Place
from tests.lab.configs import Lab
from tests.lab.environments import ENVIRONMENTS, ROOT_OF_CONTAINER, recipe_of

pytestmark = pytest.mark.measured

_BOX = "/srv/box"
_BINDS = (f"--bind-ro={input_path('')}", f"--bind={job.HOME}", "--bind-ro=/usr")
_VOLUMES = (
    f"--volume={input_path('')}:{input_path('')}:ro",
    f"--volume={job.HOME}:{job.HOME}",
    "--volume=/usr:/usr:ro",
)
_NSPAWN = Place(
    words=("systemd-nspawn", "--quiet", "--register=no", "--as-pid2", f"--directory={_BOX}", "--machine=box", *_BINDS)
)


def _podman(*options: str, user: str | None = None) -> Place:
    words = (
        "podman",
        "run",
        "--rm",
        "--network=none",
        *options,
        *_VOLUMES,
        "--rootfs",
        "/srv/tester" if user else _BOX,
    )
    return Place(words=words, user=user)


_PLACES = {
    "nspawn": _NSPAWN,
    # So podman mounts the container's own cgroup for writing, whatever the container runs.
    "podman without root": _podman("--systemd=always", user="tester"),
    "podman without root, privileged": _podman("--privileged", user="tester"),
    "podman of root": _podman("--systemd=always"),
}


@pytest.fixture(scope="module")
def guest(lab_inputs: dict[str, Path]) -> Iterator[Guest]:
    """A guest with container managers, and a root for containers."""
    environment = next(item for item in ENVIRONMENTS if item.containers)
    spec = replace(environment.spec, inputs=lab_inputs)
    with Guest(spec, image.ensure(recipe_of(environment), image.cache_folder(os.environ))) as booted:
        booted.start_user_manager("tester")
        for folder, owner in ((_BOX, "root"), ("/srv/tester", "tester")):
            done = booted.run(["sh", "-euc", ROOT_OF_CONTAINER, "sh", folder, owner])
            assert done.returncode == 0, done
        job.put(booted)
        yield booted


@pytest.mark.parametrize("name", _PLACES)
def test_limits_are_in_force_act_and_leave_nothing(guest: Guest, name: str) -> None:
    seen = job.run(guest, _PLACES[name], engine="auto")
    job.assert_both_ways(seen)
    job.assert_tree_as_before(seen)
    assert Lab(guest).leftovers() == []


@pytest.mark.parametrize("user", [None, "tester"])
def test_a_container_that_may_not_write_is_refused(guest: Guest, user: str | None) -> None:
    seen = job.run(guest, _podman(user=user))
    assert "this job may not write to" in seen.outcome.finding("CGP500", "smoke")["message"], seen.done
    assert (seen.outcome.verdict, seen.outcome.exit_status) == ("unverified", 3)
    job.assert_tree_as_before(seen, runs=0)
