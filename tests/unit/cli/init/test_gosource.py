"""Facts of Go source files."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cgroup_preflight.cli.init.gosource import GoFile, read_file
from cgroup_preflight.cli.init.listeners import Listening

SERVER = """\
// Command api: package other
/* package third */ package main

import (
	"fmt"
	"net/http"
	"example.com/shop/internal/store"
)

const note = "package fourth // not a comment"

func main() {
	http.HandleFunc("GET /healthz", nil) // "/readyz"
	http.HandleFunc("/delivery", nil)
	fmt.Println(http.ListenAndServe(":8080", nil))
}
"""


def facts(text: str, name: str = "main.go") -> GoFile:
    found = read_file(name, text)
    assert found is not None
    return found


def test_a_server() -> None:
    assert facts(SERVER) == GoFile(
        package="main", has_main=True, imports=frozenset({"net/http", "example.com/shop/internal/store"}),
        routes=("/healthz",), listening=Listening(serves=frozenset({"HTTP", "TCP"}), ports=(8080,)),
    )  # fmt: skip


@pytest.mark.parametrize(("literal", "routes"), [
    ("/healthz", ("/healthz",)), ("GET /readyz", ("/readyz",)), ("/api/v1/health", ("/api/v1/health",)),
    ("/-/ready", ("/-/ready",)), ("/health-check", ("/health-check",)), ("/_health", ("/_health",)),
    ("POST /ready", ()), ("/already", ()), ("/shipping", ()), ("/users", ()), ("health", ()), ("/health?x", ()),
])  # fmt: skip
def test_routes(literal: str, routes: tuple[str, ...]) -> None:
    assert facts(f'package main\nvar a = "{literal}"\n').routes == routes


@pytest.mark.parametrize(("line", "built"), [
    ("//go:build ignore", False), ("// +build ignore", False), ("//go:build linux", True),
    ("//go:build windows", False),
    ("//go:build !windows", True), ("//go:build linux && !amd64", False),
    ("//go:build (darwin || linux) && go1.21", True),
    ("//go:build tools", False), ("// +build windows linux", True), ("// +build linux,!amd64", False),
    ("//go:build ((((", True), ("//go:build " + "!" * 400 + "linux", True), ("// go:build ignore", True),
])  # fmt: skip
def test_build_constraints(line: str, built: bool) -> None:
    assert (read_file("main.go", f"// Copyright\n\n{line}\n\npackage main\n") is not None) is built


def test_a_constraint_below_the_package_clause_is_a_comment() -> None:
    assert read_file("main.go", "package main\n//go:build ignore\n") is not None


@pytest.mark.parametrize("name", ["main_test.go", "main_windows.go", "main_darwin_arm64.go"])
def test_files_for_others(name: str) -> None:
    assert read_file(name, SERVER) is None


def test_a_package_main_without_main_function() -> None:
    assert not facts("package main\n// func main() {}\n").has_main
    assert not facts("package lib\nfunc main() { run() }\n").has_main


@pytest.mark.parametrize(("body", "is_program"), [
    ("{}", False), ("{\n}", False), ("{ /* for go vet */ }", False), ("{\n\t// nothing\n}", False), ("{ run() }", True),
    ("{\n\tselect {}\n}", True),
])  # fmt: skip
def test_a_main_that_does_nothing_is_no_program(body: str, is_program: bool) -> None:
    assert facts(f"package main\nfunc main() {body}\n").has_main is is_program


@pytest.mark.parametrize(("text", "needed"), [
    ('// #include <a.h>\nimport "C"\n', True), ('import (\n\t"C"\n\t"fmt"\n)\n', True), ('var a = "C"\n', False),
    ('// import "C"\n', False), ('f("C", 1)\n', False),
])  # fmt: skip
def test_files_with_c(text: str, needed: bool) -> None:
    assert facts(f"package main\n{text}").imports_c is needed


@pytest.mark.parametrize("line", ["//go:build !cgo", "// +build !cgo", "//go:build linux && !cgo"])
def test_a_file_for_builds_without_cgo_has_no_other_facts(line: str) -> None:
    assert facts(f"{line}\n\n{SERVER}") == GoFile(package="main", without_cgo=True)
    assert not facts(f"//go:build cgo\n\n{SERVER}").without_cgo


@pytest.mark.parametrize(("line", "found"), [
    ("//go:generate go run ./internal/", ("./internal/",)), ("//go:generate go run -mod=mod gen.go -x", ("gen.go",)),
    ("//go:generate stringer -type=A", ()), ("// go:generate go run ./x", ()), ("//go:generate go run example.com/x@v1", ()),
])  # fmt: skip
def test_programs_that_generate_code(line: str, found: tuple[str, ...]) -> None:
    assert facts(f"package main\n{line}\n").generators == found


@given(st.text(st.sampled_from("\"`'\\/*\n package main:80()_")) | st.text())
def test_any_text_is_read(text: str) -> None:
    read_file("main.go", text)
    read_file("main.go", f"package main\n{text}")


@pytest.mark.parametrize("piece", ['"\\', '\\"', '"\\"', "`", "/*", "//", "'\\", '"/a/', "//go:build (", "!", "/a-"])
def test_no_file_takes_long(piece: str) -> None:
    started = time.monotonic()
    read_file("main.go", "package main\n" + piece * (200_000 // len(piece)))
    assert time.monotonic() - started < 5
