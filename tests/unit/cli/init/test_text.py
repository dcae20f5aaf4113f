"""The starter config as text."""

import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from cgroup_preflight.cli.init.programs import Program, sanitise
from cgroup_preflight.cli.init.text import Starter, build_command, quote, write
from cgroup_preflight.config import load
from cgroup_preflight.config.model import Config, ReadyKind
from cgroup_preflight.config.schema import schema


def program(**more: object) -> Program:
    values: dict[str, object] = {
        "name": "api", "source": "cmd/api", "module": "", "binary": "dist/api", "built": False, "serves": "HTTP",
        "port": 8080, "routes": ("/livez", "/readyz", "/healthz"),
    }  # fmt: skip
    return Program(**(values | more))  # type: ignore[arg-type]


def loaded(*programs: Program, project: str = "shop", base: str = ".") -> Config:
    text = write(Starter(project=project, programs=programs, base=base))
    return load.parse(text.encode(), shown="x.toml", folder="/x")


def test_services_and_slices() -> None:
    config = loaded(program(), program(name="worker", serves="", port=None, routes=()))
    assert [item.name for item in config.slices] == ["api", "worker"]
    assert [(item.name, item.slice, item.binary) for item in config.services] == [
        ("api", "api", "dist/api"), ("worker", "worker", "dist/api"),
    ]  # fmt: skip
    assert {item.property: item.text for item in config.services[0].settings} == {
        "MemoryMax": "128M", "MemorySwapMax": "0", "CPUQuota": "90%", "TasksMax": "128",
    }  # fmt: skip
    assert config.services[0].smoke.ready.target == "http://127.0.0.1:8080/readyz"
    assert config.services[1].smoke.ready.kind is ReadyKind.STARTED


def test_a_slice_holds_the_sum_of_its_services() -> None:
    config = loaded(*[program(name=f"a{number}", port=None) for number in range(8)])
    assert [{item.property: item.text for item in part.settings}["MemoryMax"] for part in config.slices] == [
        "1280M",
        "120M",
    ]


def test_without_programs_there_is_an_example() -> None:
    text = write(Starter(project="shop", programs=()))
    assert "# [services.hello]" in text
    assert loaded().services == ()


def test_the_example_loads_once_its_marks_are_gone() -> None:
    text = write(Starter(project="shop", programs=()))
    start = text.index("# [services.hello]")
    text = text[:start] + text[start + 2 :].replace("\n# ", "\n").replace("\n#\n", "\n\n")
    config = load.parse(text.encode(), shown="x.toml", folder="/x")
    assert [item.name for item in config.services] == ["hello"]
    assert config.inject == ("dist/*.tar.gz", "dist/*.deb")


def test_without_a_known_port_none_is_suggested() -> None:
    text = write(Starter(project="shop", programs=(program(port=None),)))
    assert "\nready = " not in text
    assert '\n# ready = "tcp://127.0.0.1:PORT"' in text
    assert '\n# ready = "http://127.0.0.1:PORT/readyz"' in text
    assert "8080" not in text


@pytest.mark.parametrize(("more", "ready"), [
    ({}, "http://127.0.0.1:8080/readyz"), ({"routes": ()}, "tcp://127.0.0.1:8080"),
    ({"serves": "gRPC"}, "tcp://127.0.0.1:8080"), ({"serves": "TCP", "routes": ()}, "tcp://127.0.0.1:8080"),
])  # fmt: skip
def test_a_known_port_is_the_readiness_test(more: dict[str, object], ready: str) -> None:
    text = write(Starter(project="shop", programs=(program(**more),)))
    assert f'\nready = "{ready}"\n' in text
    assert f"# serves {more.get('serves', 'HTTP')}" in text


def test_tools_are_comments() -> None:
    tools = [program(name=f"t{number}", source=f"tools/t{number}", is_service=False) for number in range(51)]
    text = write(Starter(project="shop", programs=(program(), *tools)))
    assert text.count("\nbinary = ") == 1
    assert "\n#   t0                       package main in tools/t0\n" in text
    assert "\n#   and 1 more\n" in text
    assert "do not look like services" not in write(Starter(project="shop", programs=(program(),)))


def test_one_port_is_given_to_one_service() -> None:
    text = write(Starter(project="shop", programs=(program(), program(name="web"))))
    assert text.count("\nready = ") == 1
    assert "# Port 8080 is taken by api" in text


def test_many_programs_are_cut_and_counted() -> None:
    text = write(Starter(project="shop", programs=[program(name=f"a{number}") for number in range(25)]))
    assert text.count("\nbinary = ") == 20
    assert "# 5 more programs were found and left out: a20, a21" in text


@pytest.mark.parametrize(("more", "command"), [
    ({}, "go build -o dist/api ./cmd/api"), ({"source": ""}, "go build -o dist/api ."), ({"module": None}, ""),
    ({"source": "svc/api", "module": "svc"}, "go build -C svc -o ../dist/api ./api"),
    ({"source": "a b/$(x)", "module": ""}, "go build -o dist/api './a b/$(x)'"),
    ({"source": "-x", "module": "-x"}, "go build -C -x -o ../dist/api ."),
])  # fmt: skip
def test_how_it_is_built(more: dict[str, object], command: str) -> None:
    assert build_command(program(**more)) == (f"CGO_ENABLED=0 {command}" if command else "")
    assert build_command(program(**more, cgo=True)) == (f"CGO_ENABLED=1 {command}" if command else "")


@given(st.text())
def test_quoted_text_comes_back(text: str) -> None:
    usable = text.encode("utf-8", "replace").decode()
    assert tomllib.loads(f"a = {quote(usable)}") == {"a": usable}


_paths = st.text(st.characters(codec="utf-8"), min_size=1, max_size=30)
_programs = st.builds(
    program, name=st.text().map(lambda text: sanitise(text, "app")), source=st.none() | _paths,
    module=st.none() | _paths, binary=_paths.filter(str.isprintable), built=st.booleans(),
    serves=st.sampled_from(["", "HTTP", "gRPC", "TCP"]), port=st.none() | st.integers(1, 65535), cgo=st.booleans(),
    is_service=st.booleans(),
    routes=st.lists(st.sampled_from(["/healthz", "/a/ready"]), max_size=2).map(tuple),
)  # fmt: skip


@given(st.lists(_programs, max_size=4, unique_by=lambda item: item.name), st.text())
def test_whatever_was_found_the_file_loads(some: list[Program], folder: str) -> None:
    config = loaded(*some, project=sanitise(folder, "project"), base="../up")
    assert {item.name for item in config.services} == {item.name for item in some if item.is_service}


def test_the_file_is_valid_for_the_schema() -> None:
    Draft202012Validator(schema()).validate(tomllib.loads(write(Starter(project="x", programs=(program(),)))))
