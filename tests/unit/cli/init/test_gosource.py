"""Facts of Go source files."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cgroup_preflight.cli.init.gosource import GoFile, read_file

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
        ports=(8080,), routes=("/healthz",),
    )  # fmt: skip


@pytest.mark.parametrize("literal", [
    '":8080"', '"127.0.0.1:8080"', '"localhost:8080"', '"0.0.0.0:8080"', '"[::]:8080"', '"[::1]:8080"', "`:8080`",
])  # fmt: skip
def test_addresses(literal: str) -> None:
    assert facts(f"package main\nvar a = {literal}\n").ports == (8080,)


@pytest.mark.parametrize(
    "code", ['flag.Int("port", 8080, "")', 'fs.Int("http-port", 8080, "")', 'flag.Int("httpPort", 8080,"")']
)
def test_port_flags(code: str) -> None:
    assert facts(f"package main\nvar a = {code}\n").ports == (8080,)


@pytest.mark.parametrize("literal", ['":0"', '":99999"', '"example.com:8080"', '"12:30"', '// ":8080"', '"at :8080"'])
def test_what_is_no_address(literal: str) -> None:
    assert facts(f"package main\nvar a = 1 {literal}\n").ports == ()


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
    ("//go:build !windows", True), ("//go:build linux && !cgo", False),
    ("//go:build (darwin || linux) && go1.21", True),
    ("//go:build tools", False), ("// +build windows linux", True), ("// +build linux,!cgo", False),
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
    assert not facts("package lib\nfunc main() {}\n").has_main


@given(st.text(st.sampled_from("\"`'\\/*\n package main:80()_")) | st.text())
def test_any_text_is_read(text: str) -> None:
    read_file("main.go", text)
    read_file("main.go", f"package main\n{text}")


@pytest.mark.parametrize("piece", ['"\\', '\\"', '"\\"', "`", "/*", "//", "'\\", '"/a/', "//go:build (", "!", "/a-"])
def test_no_file_takes_long(piece: str) -> None:
    started = time.monotonic()
    read_file("main.go", "package main\n" + piece * (200_000 // len(piece)))
    assert time.monotonic() - started < 5
