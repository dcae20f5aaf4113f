"""Every bad input of the issue, at the command line: exit status 2, the line, what was found, what is allowed.

A call costs a process, so cases that a config can hold side by side share one call; each is judged on its own line.
"""

import json
import os
import shutil
import struct
import sys
from dataclasses import dataclass

import pytest

from tests.unit.cli.calling import FILE, Called, call, told
from tests.unit.golang.binaries import Part, elf, framed, inline_blob

pytestmark = [pytest.mark.starts_processes, pytest.mark.timeout(120)]
HEAD = '[project]\nname = "shop"\n'


def quoted(text: str) -> str:
    """A TOML basic string, everything odd in it escaped."""
    return (
        '"'
        + "".join(
            char if (char.isascii() and char.isalnum()) or char in " /:.%-_" else f"\\U{ord(char):08x}" for char in text
        )
        + '"'
    )


def test_no_config(tmp_path):
    for command in ("slices", "run"):
        called = call(tmp_path, command)
        assert called.status == 2
        assert FILE in called.err
        assert "cgroup-preflight init" in called.err
        assert called.out == ""


@pytest.mark.parametrize("text", ["", "# only a comment\n"])
def test_an_empty_config(tmp_path, text):
    called = call(tmp_path, "run", config=text)
    assert called.status == 2
    assert "empty" in called.err
    # As it stands: without --force init leaves a file that is there alone.
    assert "cgroup-preflight init --force" in called.err
    assert f"{FILE}:1" in called.err


@pytest.mark.parametrize(
    ("data", "line"),
    [
        (b"[project\nname = 'x'\n", 1),
        (b"x = 1\n\xff\xfe\x00", 2),
        (os.urandom(200), 0),
        (b"x = " + b"[" * 20_000, 0),
        (b"x = " + b"1" * 5000, 1),
        (b"a." * 2000 + b"a = 1\n", 1),
    ],
    ids=["bracket", "not utf-8", "random", "nested", "long number", "deep"],
)
def test_a_file_that_is_no_config(tmp_path, data, line):
    called = call(tmp_path, "slices", config=data)
    assert called.status == 2
    assert f"{FILE}:{line or ''}" in called.err
    assert len(called.err) < 4000


SETTINGS = [
    ("memory_max = '1G'", "memory_max", "did you mean MemoryMax?"),
    ("Memorymax = '1G'", "Memorymax", "did you mean MemoryMax?"),
    ("colour = 1", "colour", "allowed"),
    ("CPUQuota = '0%'", "'0%'", "above 0%"),
    ("CPUQuota = 0", "'0'", "%"),
    ("MemoryMax = 4095", "4095", "16M"),
    ("MemoryMax = '1K'", "1024", "16M"),
    ("MemoryMax = '15M'", "15M", "16M"),
    ("MemoryHigh = '1M'", "1M", "allow_tiny_limits"),
    ("MemoryMax = '512MB'", "'512MB'", "512M\n"),
    ("MemoryMax = '512MiB'", "'512MiB'", "512M\n"),
    ("MemoryMax = '512m'", "'512m'", "512M\n"),
    ("MemoryMax = 'max'", "'max'", "infinity"),
    ("MemoryMax = '-1'", "'-1'", "infinity"),
    ("MemoryMax = -1", "'-1'", "infinity"),
    ("CPUQuota = '50'", "'50'", "50%"),
    ("CPUQuota = 50", "'50'", "50%"),
    ("CPUQuota = 'infinity'", "'infinity'", "no CPUQuota line"),
    ("CPUQuota = 'max'", "'max'", "no CPUQuota line"),
    ("TasksMax = 'max'", "'max'", "infinity"),
    ("TasksMax = 0", "'0'", "above 0"),
    ("TasksMax = -1", "'-1'", "infinity"),
    ("MemoryMax = 0", "'0'", "above zero"),
    ("MemoryMax = '150%'", "'150%'", "100%"),
    ("CPUWeight = 0", "'0'", "1 to 10000"),
    ("CPUWeight = 10001", "'10001'", "1 to 10000"),
    ("IOWeight = 'idle'", "'idle'", "1 to 10000"),
    ("CPUQuotaPeriodSec = '5s'", "'5s'", "1ms to 1s"),
    ("AllowedCPUs = '3-1'", "'3-1'", "0-3,5"),
    ("ManagedOOMMemoryPressure = 'yes'", "'yes'", "kill"),
    ("MemoryMax = true", "True", "text in quotes"),
    ("MemoryMax = 1.5", "1.5", "text in quotes, with a unit"),
    ("MemoryMax = ['1G']", "a list", "text in quotes"),
    ("CPUWeight = '080'", "'080'", "80"),
    ("CPUQuota = '०%'", "०%", "percentage"),
    ("MemoryMax = '99999999E'", "99999999E", "infinity"),
]


@pytest.fixture(scope="module")
def of_settings(tmp_path_factory) -> Called:
    """One call with every bad setting, each in a slice of its own."""
    body = "".join(f"[slices.s{number}]\n{line}\n" for number, (line, _, _) in enumerate(SETTINGS))
    return call(tmp_path_factory.mktemp("settings"), "slices", config=HEAD + body)


@pytest.mark.parametrize("number", range(len(SETTINGS)), ids=[line for line, _, _ in SETTINGS])
def test_a_setting_that_systemd_would_ignore(of_settings, number):
    _, found, allowed = SETTINGS[number]
    about = told(of_settings, 4 + 2 * number) + "\n"
    assert found in about
    assert allowed in about


def test_all_bad_settings_are_told_at_once(of_settings):
    assert of_settings.status == 2
    assert f"{len(SETTINGS)} mistakes" in of_settings.err
    assert of_settings.out == ""


@pytest.mark.parametrize("command", ["run", "smoke", "check"])
def test_every_command_reads_the_config_the_same_way(tmp_path, command):
    called = call(tmp_path, command, config=f"{HEAD}[slices.api]\nMemoryMax = '512MB'\n")
    assert called.status == 2
    assert "512M" in told(called, 4)
    assert called.out == ""


def test_services_that_are_not_whole(tmp_path):
    text = (
        f"{HEAD}[slices.worker]\n[services.a]\nbinary = 'x'\nslice = 'wroker'\n[services.b]\n[services.c]\nbinary = 5\n"
    )
    called = call(tmp_path, "run", config=text)
    assert called.status == 2
    for word in ("'wroker'", "did you mean worker?", "[slices.wroker]"):
        assert word in told(called, 6)
    assert "binary" in told(called, 7)
    assert "a number (5)" in told(called, 9)


def test_no_services_at_all(tmp_path):
    called = call(tmp_path, "run", config=f"{HEAD}[slices.a]\n")
    assert called.status == 2
    assert "services" in called.err


NAMES = [
    "a\nb",
    "a/b",
    "..",
    ".",
    "../../etc",
    "100%",
    "%n",
    "a b",
    "",
    "-",
    "a--b",
    "x" * 300,
    "é",
    "a\x1b[31mb",
    "a\u202eb",
    "@",
    "a\\b",
    "a:b",
    "$(id)",
    "'",
]
#: With the end that is added by itself: api.service.service would be another unit, which nothing ships.
DOUBLE = ["api.service", "api.slice", "api.socket", "a.b.timer"]
OWN = ["system", "user", "user-1000", "init", "machine", "system-api"]


@pytest.mark.parametrize("kind", ["slices", "services"])
def test_names_that_cannot_stand_in_a_unit(tmp_path, kind):
    """All in one file, each on its line; for slices those of systemd itself, too."""
    wrong = NAMES + DOUBLE + (OWN if kind == "slices" else [])
    called = call(tmp_path, "slices", config=HEAD + "".join(f"[{kind}.{quoted(name)}]\n" for name in wrong))
    assert called.status == 2
    assert f"{len(wrong)} mistakes" in called.err
    for number, name in enumerate(wrong):
        about = told(called, 3 + number)
        assert len(about) < 400
        if name in OWN:
            assert name in about
        elif name in DOUBLE:
            assert f"use {name.rpartition('.')[0]}\n" in about + "\n"
        else:
            assert "letters, digits" in about
        if len(name) == 300:
            assert "300" in about


REFUSED = [
    "http://10.0.0.1/",
    "http://127.0.0.1@evil/",
    "http://localhost.evil.com/",
    "http://2130706433/",
    "http://0177.0.0.1/",
    "http://0x7f.0.0.1/",
    "http://127.1/",
    "http://user:pass@127.0.0.1/",
    "http://127.0.0.1\\@evil/",
    "http://evil\\@127.0.0.1/",
    "http://127.0.0.1#@evil/",
    "http://[::ffff:10.0.0.1]/",
    "http://0.0.0.0/",
    "http://[::]/",
    "http://127.0.0.1:99999/",
    "http://127.0.0.1:0/",
    "http://[::1",
    "tcp://10.0.0.1:22",
    "tcp://127.0.0.1:0",
    "ftp://127.0.0.1/",
    "8080",
    "log:(",
    "http://127.0.0.1/\x1b[2J",
    "http://１２７.0.0.1/",
    "http://169.254.169.254/",
    "file:///etc/passwd",
    "",
]
TAKEN = [
    "http://[::1]:8079",
    "http://127.0.0.1:8080/healthz",
    "http://localhost:1/",
    "tcp://[::1]:8081",
    "tcp://localhost:80",
    "log:ready",
    "exit",
    "https://127.0.0.2/",
]


def test_readiness_addresses(tmp_path):
    """All in one file: those of other machines are refused on their lines, the others are not mentioned."""
    services = [*REFUSED, *TAKEN]
    body = "".join(
        f"[services.s{number}]\nbinary = 'x'\nsmoke.ready = {quoted(address)}\n"
        for number, address in enumerate(services)
    )
    called = call(tmp_path, "slices", config=f"{HEAD}{body}")
    assert called.status == 2
    assert f"{len(REFUSED)} mistakes" in called.err
    for number, address in enumerate(REFUSED):
        about = told(called, 5 + 3 * number)
        assert "127.0.0.1" in about or "port" in about or "log:" in address
    for number in range(len(REFUSED), len(services)):
        assert f"{FILE}:{5 + 3 * number}:" not in called.err


def test_two_services_with_one_address(tmp_path):
    """All run at the same time, so the one would be ready by the answer of the other."""
    addresses = ["http://127.0.0.1:8081/a", "tcp://localhost:8081", "http://[::1]:8081/", "http://127.0.0.2:8081/"]
    addresses += ["http://127.0.0.1/", "tcp://127.0.0.1:80"]
    body = "".join(
        f"[services.s{number}]\nbinary = 'x'\nsmoke.ready = '{address}'\n" for number, address in enumerate(addresses)
    )
    called = call(tmp_path, "run", config=HEAD + body)
    assert called.status == 2
    assert "3 mistakes" in called.err
    for line in (8, 11):
        assert "is the address of s0, too" in told(called, line)
    assert "is the address of s4, too" in told(called, 20)


def test_two_services_with_one_unix_socket(tmp_path):
    addresses = ["unix:/run/a", "unix:@/run/a", "unix:/run/a"]
    body = "".join(
        f"[services.s{number}]\nbinary = 'x'\nsmoke.ready = '{address}'\n" for number, address in enumerate(addresses)
    )
    called = call(tmp_path, "run", config=HEAD + body)
    assert called.status == 2
    assert "/run/a is the address of s0, too" in told(called, 11)
    assert "a socket of its own" in called.err
    assert "s1" not in called.err


def test_an_address_of_grpc_is_one_as_any_other(tmp_path):
    addresses = ["grpc://127.0.0.1:1", "tcp://127.0.0.1:1", "grpc://192.0.2.1:2/a", "grpc://127.0.0.1:0"]
    body = "".join(
        f"[services.s{number}]\nbinary = 'x'\nsmoke.ready = '{address}'\n" for number, address in enumerate(addresses)
    )
    called = call(tmp_path, "run", config=HEAD + body)
    assert called.status == 2
    assert "is the address of s0, too" in told(called, 8)
    assert "'192.0.2.1' is not an address of this machine" in told(called, 11)
    assert "0 is not a port" in told(called, 14)


CERTIFICATES = {
    "gone.pem": (None, "cannot read it: No such file or directory", "make it first"),
    "key.pem": ("-----BEGIN PRIVATE KEY-----\n", "it has no -----BEGIN CERTIFICATE-----", "name a PEM file"),
    "out.pem": ("", "it is a link out of the folder of the config", "copy the file"),
}


@pytest.mark.parametrize("name", CERTIFICATES)
def test_a_file_of_certificates_that_is_none_is_told_before_the_run(tmp_path, name):
    text, found, remedy = CERTIFICATES[name]
    if name == "out.pem":
        (tmp_path / name).symlink_to("/etc/passwd")
    elif text is not None:
        (tmp_path / name).write_text(text)
    (tmp_path / "x").write_text("#!/bin/sh\n")
    (tmp_path / "x").chmod(0o755)
    body = f"[services.s]\nbinary = 'x'\nsmoke.ready = 'https://127.0.0.1:1/'\nsmoke.ready_ca = '{name}'\n"
    called = call(tmp_path, "run", config=HEAD + body)
    assert called.status == 2
    about = told(called, 5)
    assert f"ready_ca '{name}' of s: {found}" in about
    assert remedy in about


def test_certificates_without_tls_and_outside_of_the_project(tmp_path):
    body = "[services.s]\nbinary = 'x'\nsmoke.ready = 'http://127.0.0.1:1/'\nsmoke.ready_ca = 'ca.pem'\n"
    body += "[services.t]\nbinary = 'x'\nsmoke.ready = 'https://127.0.0.1:2/'\nsmoke.ready_ca = '/etc/ssl/ca.pem'\n"
    called = call(tmp_path, "run", config=HEAD + body)
    assert called.status == 2
    assert "only an https:// address has a certificate" in told(called, 6)
    assert "outside the folder of the config" in told(called, 10)


def test_no_time_and_no_readiness_test_shows_nothing(tmp_path):
    ready = {"s0": "", "s1": "ready = 'exit'", "s2": "ready = 'tcp://127.0.0.1:1'", "s3": ""}
    body = "".join(
        f"[services.{name}]\nbinary = 'x'\n[services.{name}.smoke]\nduration = {0 if name != 's3' else '0.1'!r}\n{line}\n"
        for name, line in ready.items()
    )
    called = call(tmp_path, "slices", config=HEAD + body)
    assert called.status == 2
    assert "1 mistake " in called.err
    assert "without `ready`" in told(called, 6)


def test_a_remote_address_where_the_config_allows_it(tmp_path):
    body = "[smoke]\nallow_remote_ready = true\n[services.a]\nbinary = 'x'\nsmoke.ready = 'http://10.0.0.1/'\n"
    assert call(tmp_path, "slices", config=HEAD + body).status == 0
    called = call(tmp_path, "slices", config=HEAD + body.replace("10.0.0.1", "10.0.0.1:99999"))
    assert called.status == 2
    assert told(called, 7)


# --- programs -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Program:
    """A file that a config names as a program: what `make` puts there, what is found, and what to do."""

    name: str
    make: object
    found: str
    allowed: str


def _plain(path):
    path.write_text("#!/bin/sh\n")
    path.chmod(0o644)


PROGRAMS = [
    Program("missing", lambda path: None, "does not exist", "build it"),
    Program("folder", lambda path: path.mkdir(), "folder", "program"),
    Program("plain", _plain, "not executable", "chmod +x dist/plain"),
    Program("fifo", os.mkfifo, "not a regular file", "program"),
    Program("dangling", lambda path: path.symlink_to("nowhere"), "does not exist", "build it"),
    Program("loop", lambda path: path.symlink_to(path.name), "", "path"),
    Program("plain/below", lambda path: None, "", "path"),
    Program("x" * 300, lambda path: None, "", "path"),
    Program("a/" * 1500 + "x", lambda path: None, "", "path"),
    Program("\u202egnp.exe", lambda path: None, "", ""),
    Program("\x9b31mred", lambda path: None, "", ""),
    Program("--help", lambda path: None, "does not exist", ""),
    Program("$HOME", lambda path: None, "does not exist", ""),
    Program("%h", lambda path: None, "does not exist", ""),
]


def _config(binaries) -> str:
    """A service for each, on lines 3, 5, 7 and so on."""
    return HEAD + "".join(
        f"[services.s{number}]\nbinary = {quoted(binary)}\n" for number, binary in enumerate(binaries)
    )


@pytest.mark.parametrize("command", ["smoke", "run"])
def test_programs_that_cannot_be_started(tmp_path, command):
    """A mistake of the call whatever the host is like: it is told before the host is judged."""
    (tmp_path / "dist").mkdir()
    for item in PROGRAMS:
        item.make(tmp_path / "dist" / item.name)
    called = call(tmp_path, command, config=_config(f"dist/{item.name}" for item in PROGRAMS))
    assert called.status == 2
    assert called.out == ""
    for number, item in enumerate(PROGRAMS):
        about = told(called, 3 + 2 * number)
        assert f"s{number}" in about
        assert item.found in about
        assert item.allowed in about
        if item.name.isalpha() and len(item.name) < 20:
            assert f"dist/{item.name}" in about


def test_names_of_programs_that_no_config_may_have(tmp_path):
    wrong = ["", "a\nb", "a\x1b[31mb", "a\x00b", "\x7f"]
    called = call(tmp_path, "slices", config=_config(wrong))
    assert called.status == 2
    for number in range(len(wrong)):
        assert "path" in told(called, 4 + 2 * number)


def _elf(machine: int) -> bytes:
    """The head of a static ELF program."""
    head = (
        b"\x7fELF"
        + bytes([2, 1, 1])
        + bytes(9)
        + struct.pack("<HHIQQQIHHHHHH", 2, machine, 1, 0x400000, 64, 0, 0, 64, 56, 1, 64, 0, 0)
    )
    return head + struct.pack("<IIQQQQQQ", 1, 5, 0, 0x400000, 0x400000, 120, 120, 0x1000)


FOREIGN = {
    "other": (_elf(243 if os.uname().machine != "riscv64" else 62), ""),
    "empty": (b"", "empty"),
    "pe": (b"MZ" + bytes(58) + b"\x40\0\0\0PE\0\0" + bytes(40), "Windows"),
    "macho": (b"\xcf\xfa\xed\xfe" + bytes(64), "macOS"),
    "text": (b"just text\n", "not a program"),
    "damaged": (b"\x7fELF" + bytes(8), ""),
    "cut": (_elf(62)[:70], ""),
}


def test_programs_for_another_machine_are_a_fail_of_the_product(tmp_path):
    for name, (data, _) in FOREIGN.items():
        (tmp_path / name).write_bytes(data)
        (tmp_path / name).chmod(0o755)
    called = call(tmp_path, "smoke", "--engine", "systemd", config=_config(FOREIGN))
    assert called.status == 1
    for number, (name, (_, word)) in enumerate(FOREIGN.items()):
        (line,) = [line for line in called.out.split("\n") if f"{FILE}:{3 + 2 * number}]" in line and "CGP401" in line]
        assert f"'{name}'" in line
        assert word in line
    assert "GOOS=linux" in called.out


ARM64 = 183 if os.uname().machine != "aarch64" else 62


@pytest.mark.parametrize("command", ["run", "smoke"])
@pytest.mark.parametrize("engine", [[], ["--engine", "systemd"], ["--engine", "guest"]], ids=" ".join)
@pytest.mark.parametrize(
    ("data", "word"), [(b"just text\n", "it is not a program"), (_elf(ARM64), "")], ids=["text", "other machine"]
)
def test_a_program_that_cannot_run_is_what_the_report_is_about(tmp_path, command, engine, data, word):
    """Whatever the host is like: it is neither blamed for it, nor is what was found about it lost."""
    (tmp_path / "prog").write_bytes(data)
    (tmp_path / "prog").chmod(0o755)
    words = (command, *engine, "--format", "json=report.json", "--verbose")
    called = call(tmp_path, *words, config=_config(["prog"]))
    assert called.status == 1
    verdict, _, _, first, *_ = called.out.split("\n")
    assert verdict.startswith("FAIL: ")
    assert verdict.endswith(" failed: CGP401 s0")
    assert first.startswith("fail       CGP401 s0: binary 'prog' cannot run here: ")
    assert word in first
    assert first.endswith(f"[{FILE}:3]")
    assert "GOOS=linux" in called.out
    report = json.loads((tmp_path / "report.json").read_text())
    broken, *rest = report["findings"]
    assert (report["verdict"], broken["code"], broken["status"]) == ("fail", "CGP401", "fail")
    assert (broken["subject"], broken["location"]) == ("s0", {"file": FILE, "line": 3})
    assert not [item for item in rest if item["status"] in ("fail", "unverified")]
    assert report["services"] == []
    checked = call(tmp_path, "check", "--format", "json", statuses=(0, 1, 3))
    for item in json.loads(checked.out)["findings"]:
        if item["status"] in ("fail", "unverified") and item["code"] not in ENGINE:
            (same,) = [
                one for one in rest if one["subject"] == f"this host: {item['subject']}" and one["code"] == item["code"]
            ]
            assert item["message"] in same["message"]
            assert "this host was not judged: no service was run" in same["message"]
            assert same["status"] == {"fail": "warn", "unverified": "skip"}[item["status"]]


#: What is found about the engine depends on which one was named.
ENGINE = ("CGP105",)


@pytest.mark.parametrize("command", ["run", "smoke"])
def test_one_program_of_several_is_named(tmp_path, command):
    shutil.copy(sys.executable, tmp_path / "good")
    (tmp_path / "bad").write_text("just text\n")
    (tmp_path / "bad").chmod(0o755)
    called = call(tmp_path, command, "--format", "json", config=_config(["good", "bad"]))
    assert called.status == 1
    failed = [item for item in json.loads(called.out)["findings"] if item["status"] == "fail"]
    assert [(item["code"], item["subject"]) for item in failed] == [("CGP401", "s1")]


needs_no_systemd = pytest.mark.skipif(os.path.isdir("/run/systemd/system"), reason="there it would start the program")


@pytest.mark.parametrize("command", ["run", pytest.param("smoke", marks=needs_no_systemd)])
def test_what_is_known_of_a_go_program_is_told_where_the_host_fails_too(tmp_path, command):
    """In front of what is said of the host: GOMEMLIMIT is above the limit, and no host has systemd 9999."""
    blob = inline_blob(b"go1.25.5", framed(b"path\texample.com/app\nmod\texample.com/app\tv1.2.3\tsum\n"))
    machine = 183 if os.uname().machine == "aarch64" else 62
    (tmp_path / "app").write_bytes(elf(machine=machine, sections=[Part(data=blob, name=".go.buildinfo")]))
    (tmp_path / "app").chmod(0o755)
    config = (
        f'{HEAD}[require]\nsystemd = ">=9999"\n[services.app]\nbinary = "app"\nMemoryMax = "64M"\n'
        'go_settings = false\n[services.app.smoke]\nenv = { GOMEMLIMIT = "1GiB" }\n'
    )
    called = call(tmp_path, command, "--engine", "systemd", "--format", "json", config=config)
    assert called.status in (1, 3)
    wrong = [item for item in json.loads(called.out)["findings"] if item["status"] in ("fail", "warn", "unverified")]
    kinds = [item["code"][:4] for item in wrong if item["code"][:4] in ("CGP1", "CGP4")]
    assert "CGP4" in kinds
    assert "CGP1" in kinds
    assert kinds == sorted(kinds, reverse=True)


# --- what the terminal gets to see --------------------------------------------------------------------------

ESCAPES = "\x1b[31m\x1b]0;title\x07\x9b2J\u202e\u2066\x08\x7f\u2028"
PLACES = [
    "[slices.a]\n{} = 1",
    "[slices.{}]",
    "[slices.b]\nMemoryMax = {}",
    "[slices.c]\nMemoryMax = [{}]",
    "[services.d]\nbinary = 'x'\nslice = {}",
    "[services.e]\nbinary = 'x'\nsmoke.ready = {}",
    "[services.f]\nbinary = 'x'\nsmoke.args = {}",
    "[services.g]\nbinary = 'x'\nsmoke.env = {{ {} = 'x' }}",
    "[services.h]\nbinary = 'x'\nsmoke.duration = {}",
    "[require]\nsystemd = {}\ncontrollers = [{}]",
    "[smoke]\nengine = {}",
    "[services.{}]\nbinary = 'x'",
    "[services.i]\nbinary = 'x'\nsmoke.ready = 'log:(' \n{} = 1",
    "[{}]",
    "[services.j.smoke]\n{} = 1",
    "[services.k]\nbinary = {}",
    "[artifacts]\ninject = [{}]",
]


@pytest.mark.parametrize("word", [quoted(ESCAPES + "x"), "'\u202e\u2066\x9b2J\u2028x'"], ids=["as TOML escapes", "raw"])
def test_terminal_escapes_in_a_config_never_reach_the_terminal(tmp_path, word):
    """`call` looks at every line of stderr."""
    called = call(
        tmp_path, "slices", config=HEAD + "".join(place.format(*[word] * place.count("{}")) + "\n" for place in PLACES)
    )
    assert called.status == 2
    assert len(called.err.split("\n")) > 2 * len(PLACES) - 4


@pytest.mark.parametrize("text", ["[slices.a]\nMemoryMax = '{}'", "{} = 1"])
def test_terminal_escapes_that_are_no_toml(tmp_path, text):
    assert call(tmp_path, "slices", config=text.format(ESCAPES)).status == 2


@pytest.mark.parametrize("name", ["\x1b[31m\n\u202e.toml", os.fsdecode(b"\xff.toml")], ids=["escapes", "bytes"])
def test_a_config_of_any_name(tmp_path, name):
    (tmp_path / name).write_text("[slices.a]\nMemoryMax = '5MB'\n")
    called = call(tmp_path, "slices", f"--config={name}")
    assert called.status == 2
    assert "5M" in called.err


@pytest.mark.parametrize("name", ["folder", "nothing.toml", "", "x" * 300, "fifo"])
@pytest.mark.timeout(20)
def test_a_config_that_is_no_file(tmp_path, name):
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "fifo")
    called = call(tmp_path, "slices", "--config", name, timeout=10)
    assert called.status == 2
    assert called.out == ""


def test_mistakes_as_json_are_not_on_stdout(tmp_path):
    """Data goes to stdout alone: a reader of JSON gets a whole report or nothing."""
    called = call(tmp_path, "check", "--format", "json", config="[slices.a]\nMemoryMax = '5MB'\n")
    assert called.status == 2
    assert not called.out or json.loads(called.out)


def test_a_root_that_a_script_left_empty(tmp_path):
    """This host must not be judged in place of the one that was meant."""
    called = call(tmp_path, "check", "--root", "")
    assert called.status == 2
    assert "--root" in called.err
    assert called.out == ""
