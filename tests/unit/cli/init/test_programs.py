"""From what was found to services."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cgroup_preflight.cli.init.gosource import GoFile
from cgroup_preflight.cli.init.programs import Program, programs, project_name, sanitise
from cgroup_preflight.cli.init.scan import SourceTree
from cgroup_preflight.config.keys import parse_name


def go(package: str = "main", *imports: str, ports: tuple[int, ...] = (), routes: tuple[str, ...] = ()) -> GoFile:
    return GoFile(package=package, has_main=package == "main", imports=frozenset(imports), ports=ports, routes=routes)


def found(modules: dict[str, str], packages: dict[str, GoFile], binaries: dict[str, bool] | None = None) -> SourceTree:
    return SourceTree(
        modules=modules,
        packages={name: (file,) for name, file in packages.items()},
        binaries=binaries or {},
        complete=True,
    )


def one(some: SourceTree) -> Program:
    (program,) = programs(some)
    return program


@pytest.mark.parametrize(("modules", "folder", "name"), [
    ({"": "example.com/shop"}, "", "shop"), ({"": "example.com/shop/v2"}, "", "shop"), ({"": "shop"}, "cmd/api", "api"),
    ({"api": "example.com/api-server"}, "api", "api-server"), ({}, "tools/gen", "gen"), ({"": ""}, "", "app"),
    ({"": "example.com/ä ö"}, "", "app"), ({}, "cmd/x.service", "x"), ({}, "cmd/y.path.socket", "y"), ({}, "cmd/a..b", "a-b"),
])  # fmt: skip
def test_names_are_those_of_go_build(modules: dict[str, str], folder: str, name: str) -> None:
    assert one(found(modules, {folder: go()})).name == name


def test_twins_get_a_number() -> None:
    some = found({}, {"a/server": go(), "b/server": go(), "c/server-2": go()})
    assert [item.name for item in programs(some)] == ["server", "server-2", "server-2-2"]


def test_http_ports_and_routes_are_found_through_own_packages() -> None:
    some = found(
        {"": "example.com/shop"},
        {
            "cmd/api": go("main", "example.com/shop/internal/web"),
            "cmd/worker": go("main", "example.com/shop/internal/job"),
            "internal/web": go("web", "net/http", "example.com/shop/internal/job", ports=(8080,), routes=("/healthz",)),
            "internal/job": go("job", "example.com/shop/cmd/api", "os/exec"),
        },
    )  # fmt: skip
    api, worker = programs(some)
    assert (api.http, api.ports, api.routes, api.slice) == (True, (8080,), ("/healthz",), "api")
    # job imports api here, which no Go program could; a circle must not hang.
    assert worker.http


def test_packages_of_a_module_below_are_not_reached() -> None:
    some = found({"a": "example.com/a"}, {"a": go("main", "example.com/a/web"), "a/web": go("web", "net/http"),
                                          "web": go("web", "net/http", ports=(1,))})  # fmt: skip
    assert one(some).http
    assert one(some).ports == ()


@pytest.mark.parametrize(
    "name", ["github.com/gin-gonic/gin", "github.com/labstack/echo/v4", "github.com/go-chi/chi/v5"]
)
def test_well_known_frameworks_serve_http(name: str) -> None:
    assert one(found({}, {"": go("main", name)})).http


def test_binaries_are_found_by_name() -> None:
    some = found(
        {}, {"cmd/api": go(), "cmd/worker": go()}, {"x/y/api": True, "bin/api": True, "out/worker-linux-amd64": True}
    )
    api, worker = programs(some)
    assert (api.binary, api.built) == ("bin/api", True)
    assert (worker.binary, worker.built) == ("out/worker-linux-amd64", True)


def test_without_a_binary_dist_is_where_it_will_be() -> None:
    program = one(found({}, {"cmd/api": go()}, {"bin/a\napi": True, "bin/other": False}))
    assert (program.binary, program.built) == ("dist/api", False)


def test_go_programs_without_source_are_services_too() -> None:
    some = found({}, {}, {"dist/api-linux-amd64": True, "dist/api-linux-arm64": True, "bin/tool": False})
    program = one(some)
    assert (program.name, program.binary, program.source, program.slice) == (
        "api",
        "dist/api-linux-amd64",
        None,
        "worker",
    )


def test_the_project_is_named_after_module_or_folder() -> None:
    assert project_name(found({"": "example.com/shop/v3"}, {}), "x") == "shop"
    assert project_name(found({}, {}), "my shop!") == "my-shop"
    assert project_name(found({}, {}), "\n%..") == "project"


@given(st.text())
def test_every_sanitised_name_is_one(text: str) -> None:
    assert parse_name(sanitise(text, "app"))
