"""From what was found to services."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cgroup_preflight.cli.init.gosource import GoFile
from cgroup_preflight.cli.init.listeners import listening
from cgroup_preflight.cli.init.programs import Program, programs, project_name, sanitise
from cgroup_preflight.cli.init.scan import SourceTree
from cgroup_preflight.config.keys import parse_name


def go(package: str = "main", *imports: str, routes: tuple[str, ...] = (), code: str = "", **more: Any) -> GoFile:
    return GoFile(
        package=package, has_main=package == "main", imports=frozenset(imports), routes=routes,
        **{"listening": listening(code), **more},
    )  # fmt: skip


HTTP = 'http.ListenAndServe(":8080", nil)'


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
    ({"api": "example.com/api-server"}, "api", "api-server"), ({}, "tools/lint", "lint"), ({"": ""}, "", "app"),
    ({"": "example.com/ä ö"}, "", "app"), ({}, "cmd/x.service", "x"), ({}, "cmd/y.path.socket", "y"), ({}, "cmd/a..b", "a-b"),
])  # fmt: skip
def test_names_are_those_of_go_build(modules: dict[str, str], folder: str, name: str) -> None:
    assert one(found(modules, {folder: go()})).name == name


def test_twins_get_a_number() -> None:
    some = found({}, {"a/server": go(), "b/server": go(), "c/server-2": go()})
    assert [item.name for item in programs(some)] == ["server", "server-2", "server-2-2"]


def test_what_it_serves_is_found_through_own_packages() -> None:
    some = found(
        {"": "example.com/shop"},
        {
            "cmd/api": go("main", "example.com/shop/internal/web"),
            "cmd/worker": go("main", "example.com/shop/internal/job"),
            "internal/web": go("web", "net/http", "example.com/shop/internal/job", routes=("/healthz",), code=HTTP),
            "internal/job": go("job", "example.com/shop/cmd/api", "os/exec"),
        },
    )  # fmt: skip
    api, worker = programs(some)
    assert (api.serves, api.port, api.routes, api.slice) == ("HTTP", 8080, ("/healthz",), "api")
    # job imports api here, which no Go program could; a circle must not hang.
    assert worker.serves == "HTTP"


def test_packages_of_other_modules_of_the_tree_are_reached() -> None:
    some = found(
        {"api": "example.com/api", "common": "example.com/common"},
        {"api": go("main", "example.com/common/server"), "common/server": go("server", code=HTTP)},
    )
    assert one(some).serves == "HTTP"


def test_packages_without_a_module_are_not_reached() -> None:
    some = found({"a": "example.com/a"}, {"a": go("main", "example.com/a/web"), "a/web": go("web", code="grpc.NewServer()"),
                                          "web": go("web", code=HTTP)})  # fmt: skip
    assert (one(some).serves, one(some).port) == ("gRPC", None)


def named(some: SourceTree) -> tuple[list[str], list[str]]:
    """The names of the services, and of the tools."""
    found = programs(some)
    return [item.name for item in found if item.is_service], [item.name for item in found if not item.is_service]


@pytest.mark.parametrize("code", [
    HTTP, "grpc.NewServer()", 'net.Listen("tcp", addr)', "signal.Notify(stop, syscall.SIGTERM)", "time.NewTicker(second)",
    "for { work(); time.Sleep(second) }", "select {}", "gin.Default()", "srv.ListenAndServe()",
])  # fmt: skip
def test_services_come_first_and_commands_that_end_are_tools(code: str) -> None:
    some = found({}, {"cmd/a": go("main", "net/http", code="http.Get(url)"), "cmd/z": go(code=code)})
    assert named(some) == (["z"], ["a"])


@pytest.mark.parametrize("folder", [
    "tools/x", "hack/x", "docs/debugging/x", "test/x", "internal/tools/x", "examples/x", "cmd/etcdctl", "cmd/amtool",
    "cmd/logcli", "cmd/load-client", "cmd/zoekt-test", "cmd/gen", "cmd/migrate", "cmd/generate-load", "pkg/bench/cmd/x",
])  # fmt: skip
def test_servers_that_nobody_runs_for_users_are_tools(folder: str) -> None:
    services, tools = named(found({}, {folder: go(code=HTTP), "cmd/z": go(code=HTTP)}))
    assert (services, tools) == (["z"], [folder.rpartition("/")[2]])
    assert named(found({}, {folder: go(code=HTTP)}))[1] == [], "the only server there is"


@pytest.mark.parametrize("folder", ["cmd/toolbox", "cmd/testimonials", "cmd/client-api", "documents", "cmd/agent"])
def test_names_that_only_sound_like_tools(folder: str) -> None:
    assert named(found({}, {folder: go(code=HTTP), "cmd/z": go(code=HTTP)}))[1] == []


def test_a_consumer_of_a_queue_is_a_service() -> None:
    some = found({}, {"cmd/a": go(), "cmd/b": go("main", "github.com/nats-io/nats.go"), "cmd/mail-worker": go()})
    assert named(some) == (["b", "mail-worker"], ["a"])


def test_where_nothing_looks_like_a_service_all_are_tried() -> None:
    assert named(found({}, {"cmd/a": go(), "cmd/b": go(), "tools/c": go()})) == (["a", "b"], ["c"])


def test_of_a_tree_that_was_read_in_part_the_program_of_its_name_is_a_service() -> None:
    packages = {"cmd/shop": (go(),), "cmd/other": (go(),), "cmd/z": (go(code=HTTP),)}
    some = SourceTree(modules={"": "example.com/shop/v2"}, packages=packages, binaries={}, complete=False)
    assert named(some) == (["shop", "z"], ["other"])
    assert named(replace(some, complete=True)) == (["z"], ["other", "shop"])


def test_what_go_generate_runs_is_no_program() -> None:
    some = found(
        {}, {"": go("x", generators=("./internal/", "cmd/../gen")), "internal": go(), "gen": go(), "cmd/a": go()}
    )
    assert named(some) == (["a"], [])


@pytest.mark.parametrize(("files", "needed"), [
    ([go("db", imports_c=True)], True), ([go("db", imports_c=True), go("db", without_cgo=True)], False),
    ([go("db")], False), ([go("db", "github.com/mattn/go-sqlite3")], True),
    ([go("db", "github.com/mattn/go-sqlite3"), go("db", without_cgo=True)], False), ([go("db", without_cgo=True)], False),
])  # fmt: skip
def test_a_program_that_needs_cgo(files: list[GoFile], needed: bool) -> None:
    packages = {"": (go("main", "example.com/a/db"),), "db": tuple(files)}
    some = SourceTree(modules={"": "example.com/a"}, packages=packages, binaries={}, complete=True)
    assert one(some).cgo is needed


@pytest.mark.parametrize(("module", "folder", "name"), [
    ("go.etcd.io/etcd/server/v3", "server", "etcd"), ("example.com/server", "server", "server"),
    ("example.com/shop", "services/api/cmd", "api"), ("example.com/shop", "cmd", "cmd"),
    ("example.com/shop", "cmd/server", "server"),
])  # fmt: skip
def test_a_name_that_says_nothing_is_replaced_by_the_one_above(module: str, folder: str, name: str) -> None:
    at = folder if folder == "server" else ""
    assert one(found({at: module}, {folder: go()})).name == name


@pytest.mark.parametrize(
    "name", ["github.com/gin-gonic/gin", "github.com/labstack/echo/v4", "github.com/go-chi/chi/v5"]
)
def test_well_known_frameworks_serve_http(name: str) -> None:
    assert one(found({}, {"": go("main", name)})).serves == "HTTP"


def test_binaries_are_found_by_name() -> None:
    some = found(
        {}, {"cmd/api": go(), "cmd/jobs": go()}, {"x/y/api": True, "bin/api": True, "out/jobs-linux-amd64": True}
    )
    api, jobs = programs(some)
    assert (api.binary, api.built) == ("bin/api", True)
    assert (jobs.binary, jobs.built) == ("out/jobs-linux-amd64", True)


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
