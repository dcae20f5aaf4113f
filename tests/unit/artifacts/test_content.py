"""What has to be in an artifact: pure."""

import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cgroup_preflight.artifacts import manifest
from cgroup_preflight.artifacts.content import Contents, wanted_files
from cgroup_preflight.artifacts.model import ArtifactError, PackedProgram
from cgroup_preflight.plan.unitfile import drop_in_files, slice_drop_in_files
from tests.unit.artifacts.making import DROP_IN, MANIFEST, SLICE, UNITS, manifest_in, proof, request

TWO = """
[slices.api]
MemoryMax = "192M"
[slices.jobs-night]
CPUQuota = "50%"
[services.user-api]
binary = "dist/user-api"
slice = "api"
[services.user-api.smoke]
args = ["--port=80", "a b", "100%", "$HOME", "\\"q\\"", ";", "\\n"]
[services.worker]
binary = "dist/worker"
slice = "jobs-night"
MemoryMax = "64M"
"""
NOTHING = Contents(programs={}, units=frozenset())


def _has(*units: str, **programs: str) -> Contents:
    found = {
        name.replace("_", "-"): (PackedProgram(path=f"usr/bin/{name}", sha256=digest),)
        for name, digest in programs.items()
    }
    return Contents(programs=found, units=frozenset(units))


def test_slices_and_services_have_drop_ins() -> None:
    goal = request(TWO)
    files = wanted_files(goal, NOTHING)
    units = {
        f"{UNITS}/{unit.path}": unit.content.encode()
        for unit in (*slice_drop_in_files(goal.plan), *drop_in_files(goal.plan))
    }
    assert {path: data for path, data in files.items() if path != MANIFEST} == units


def test_manifest_says_what_was_tested() -> None:
    goal = request(TWO, tested=proof(user_api="a" * 64, worker="b" * 64))
    has = _has(user_api="a" * 64)
    said = manifest_in(wanted_files(goal, has)[MANIFEST])
    assert said.verdict == "pass"
    assert said.config_sha256 == "c" * 64
    assert [(item.service, item.path, item.sha256) for item in said.binaries] == [
        ("user-api", "usr/bin/user_api", "a" * 64), ("worker", None, "b" * 64),
    ]  # fmt: skip
    assert manifest.dump(said) == wanted_files(goal, has)[MANIFEST]


def test_another_build_of_a_tested_program_is_refused() -> None:
    with pytest.raises(ArtifactError, match="not the program of user-api that was tested") as caught:
        wanted_files(request(TWO, tested=proof(user_api="a" * 64)), _has(user_api="b" * 64))
    assert caught.value.code.code == "CGP302"


@pytest.mark.parametrize(
    ("services", "has", "paths"),
    [
        ("present", _has("worker"), {"jobs-night.slice.d", "worker.service.d"}),
        ("present", _has(user_api="x"), {"api.slice.d", "user-api.service.d"}),
        ("present", NOTHING, set()),
        (frozenset({"worker"}), NOTHING, {"jobs-night.slice.d", "worker.service.d"}),
    ],
)
def test_services_can_be_chosen(services: str | frozenset[str], has: Contents, paths: set[str]) -> None:
    files = wanted_files(request(TWO, services=services), has)
    units = {path.removeprefix(f"{UNITS}/").split("/")[0] for path in files if path.startswith(UNITS)}
    assert units == paths


def test_a_whole_unit_where_the_artifact_has_none() -> None:
    goal = request(TWO, services=frozenset({"user-api"}), service_units=True, user="shop")
    text = wanted_files(goal, _has(user_api="a"))[f"{UNITS}/user-api.service"].decode()
    assert "\nType=exec\n" in text
    assert 'ExecStart=/usr/bin/user_api --port=80 "a b" 100%% $$HOME "\\"q\\"" ";" "\\x0a"\n' in text
    assert "\nUser=shop\n" in text
    assert "\nSlice=api.slice\n" in text
    assert text.endswith("[Install]\nWantedBy=multi-user.target\n")
    assert f"{UNITS}/user-api.service" not in wanted_files(goal, _has("user-api", user_api="a"))


def test_no_whole_unit_without_exactly_one_program() -> None:
    with pytest.raises(ArtifactError, match="no file of that name"):
        wanted_files(request(TWO, service_units=True), NOTHING)


def test_prefix_is_left_out_of_the_command() -> None:
    goal = request(service_units=True, prefix="shop-1")
    has = Contents(programs={"user-api": (PackedProgram(path="shop-1/opt/user-api", sha256="a"),)}, units=frozenset())
    assert b"ExecStart=/opt/user-api\n" in wanted_files(goal, has)["shop-1/usr/lib/systemd/system/user-api.service"]


def test_packages_of_one_project_have_no_file_in_common() -> None:
    has = [Contents(programs={}, units=frozenset(), package=name) for name in ("shop-api", "shop-worker", "")]
    paths = [set(wanted_files(request(TWO), item)) for item in has]
    assert not paths[0] & paths[1] and not paths[0] & paths[2]
    assert f"{UNITS}/api.slice.d/10-cgroup-preflight-shop-api.conf" in paths[0]


@given(data=st.binary(max_size=200) | st.sampled_from([b"{}", b'{"schema_version": 1}', b"[" * 5000]))
def test_any_bytes_are_no_manifest(data: bytes) -> None:
    assert manifest.parse(data) is None


def test_layout_of_the_paths() -> None:
    assert set(wanted_files(request(), NOTHING)) == {SLICE, DROP_IN, MANIFEST}
    assert shlex.quote(SLICE) == SLICE, "paths need no quoting in snippets"
