"""What programs need of the guest's system: found before the boot, all of it at once."""

import pytest

from cgroup_preflight.guest.programs import Lacking, lacking, policy_name, remedy_for, told
from tests.unit.golang.test_dynamic import elf

LISTING = ("/bin/sh", "/usr/bin/env", "/usr/bin/python3", "/lib64/ld.so", "/usr/lib/x86_64-linux-gnu/libc.so.6")


def put(folder, name, data):
    path = folder / name
    path.write_bytes(data)
    return path


def names(programs, given=None):
    return [(item.name, item.needed_by) for item in lacking(programs, LISTING, given)]


def test_a_program_whose_libraries_the_image_has_lacks_nothing(tmp_path):
    assert names({"dist/api": put(tmp_path, "api", elf("/lib64/ld.so", ("libc.so.6",)))}) == []
    assert names({"static": put(tmp_path, "static", elf())}) == []


def test_all_of_all_programs_at_once_each_name_once(tmp_path):
    one = put(tmp_path, "one", elf("/lib/ld-musl-x86_64.so.1", ("libz.so.1", "libpq.so.5")))
    two = put(tmp_path, "two", elf("/lib64/ld.so", ("libpq.so.5", "libc.so.6", "libx.so.2")))
    found = names({"one": one, "two": two})
    assert found == [
        ("/lib/ld-musl-x86_64.so.1", "one"),
        ("libz.so.1", "one"),
        ("libpq.so.5", "one"),
        ("libx.so.2", "two"),
    ]


def test_a_library_that_comes_along_counts_with_its_own_needs(tmp_path):
    program = put(tmp_path, "api", elf("/lib64/ld.so", ("libpq.so.5",)))
    library = put(tmp_path, "libpq.so.5", elf("", ("libssl.so.3", "libpq.so.5")))
    assert names({"api": program}, {"/opt/app/lib/libpq.so.5": library}) == [("libssl.so.3", "api")]


@pytest.mark.parametrize(
    ("line", "missing"),
    [
        ("#!/bin/sh", []), ("#!/usr/bin/node", ["/usr/bin/node"]), ("#! /usr/bin/env python3", []),
        ("#!/usr/bin/env node", ["node"]), ("#!/usr/bin/env -S A=b node --x", ["node"]), ("#!relative", []), ("#!", []),
        ("#!/opt/mine", []), ("#!/usr/bin/env ./here", []),
    ],
)  # fmt: skip
def test_the_program_that_runs_a_script(tmp_path, line, missing):
    script = put(tmp_path, "job", f"{line}\nexit\n".encode())
    assert [name for name, _ in names({"job": script}, {"/opt/mine": script})] == missing


@pytest.mark.parametrize("data", [b"", b"#", b"MZ", b"\x7fELF", b"\x7fELF\2\1\1" + b"\xff" * 80])
def test_what_cannot_be_read_is_left_to_the_start(tmp_path, data):
    assert names({"x": put(tmp_path, "x", data)}) == []


def test_what_is_said(tmp_path):
    program = put(tmp_path, "x", elf("/lib64/ld.so", ("libpq.so.5", "libfoo2.so.0.1", "odd")))
    found = lacking({"dist/x": program}, LISTING)
    assert told(found[:2]) == "libpq.so.5 (needed by dist/x), libfoo2.so.0.1 (needed by dist/x)"
    title = remedy_for(found, "debian-12").title
    assert '[target.paths], as in "/usr/lib/x86_64-linux-gnu/libpq.so.5" = "lib/libpq.so.5"' in title
    assert title.startswith(
        'add packages = ["libpq5"] to [target], or add the package of debian-12 that has libfoo2.so.0.1 to packages in '
        "[target] (apt-file search libfoo2.so.0.1), or link"
    )
    many = [*found] * 14
    assert told(many).endswith(" and 12 more")
    (only,) = lacking({"job": put(tmp_path, "job", b"#!/usr/bin/node\n")}, LISTING)
    assert 'as in "/usr/bin/node" = "lib/node"' in remedy_for([only], "debian-13").title


@pytest.mark.parametrize(
    ("soname", "packages"),
    [
        ("libssl.so.3", ("libssl3", "libssl3t64")), ("libz.so.1", ("zlib1g", "zlib1g")), ("libldap-2.5.so.0", ("libldap-2.5-0", "")),
        ("libldap.so.2", ("", "libldap2")), ("libicuuc.so.76", ("", "libicu76")), ("libgio-2.0.so.0", ("libglib2.0-0", "libglib2.0-0t64")),
    ],
)  # fmt: skip
def test_the_package_of_a_library_in_each_release(soname, packages):
    for distro, package in zip(("debian-12", "debian-13"), packages, strict=True):
        title = remedy_for([Lacking(name=soname, needed_by="x", library=True)], distro).title
        said = f'add packages = ["{package}"] to' if package else f"add the package of {distro} that has {soname} to"
        assert title.startswith(said)


@pytest.mark.parametrize(
    ("soname", "name"),
    [("libpq.so.5", "libpq5"), ("libssl-1.1.so", "libssl-1.1"), ("libfoo2.so.0.1", "libfoo2-0.1"), ("odd", ""),
     ("libX11.so.6", "libx11-6"), ("libgssapi_krb5.so.2", "libgssapi-krb5-2")],
)  # fmt: skip
def test_the_rule_for_names_of_packages(soname, name):
    assert policy_name(soname) == name
