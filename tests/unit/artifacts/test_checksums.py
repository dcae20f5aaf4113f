"""Signatures and checksums next to an artifact."""

import hashlib
import os
from pathlib import Path

import pytest

from tests.unit.artifacts import making
from tests.unit.artifacts.making import put, tar, write


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return Path(write(tmp_path, "a.tar", tar(making.tree())))


def _hash(path: Path, name: str = "sha256") -> str:
    return hashlib.new(name, path.read_bytes()).hexdigest()


def test_what_becomes_wrong_is_named_and_left_alone(path: Path) -> None:
    for suffix in (".sig", ".asc", ".sigstore.json"):
        path.with_name(path.name + suffix).write_bytes(b"signature")
    sums = path.with_name("SHA256SUMS")
    sums.write_text(f"{_hash(path)}  a.tar\n")
    path.with_name("SHA256SUMS.asc").write_bytes(b"signature")
    path.with_name("a_1.0_amd64.changes").write_text("Files:\n a.tar\n")
    path.with_name("other.tar.sig").write_bytes(b"signature")
    before = sums.read_text()
    done = put(str(path))
    names = sorted(Path(place).name for place in done.stale)
    assert names == [
        "SHA256SUMS",
        "SHA256SUMS.asc",
        "a.tar.asc",
        "a.tar.sig",
        "a.tar.sigstore.json",
        "a_1.0_amd64.changes",
    ]
    assert sums.read_text() == before
    assert [Path(place).name for place in put(str(path)).stale] == ["SHA256SUMS"], "it is still wrong"


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("SHA256SUMS", "1111  b.tar\n{}  a.tar\n"),
        ("a.tar.sha256", "{}\n"),
        ("sums.sha512sums", "SHA512 (a.tar) = {}\nSHA512 (b.tar) = " + "1" * 128),
    ],
)
def test_checksums_can_be_corrected_after_the_injection(path: Path, name: str, line: str) -> None:
    sums, algorithm = path.with_name(name), "sha512" if "512" in name else "sha256"
    sums.write_text(line.format(_hash(path, algorithm)))
    assert put(str(path)).stale == (str(sums),)
    done = put(str(path), rewrite_checksums=True)
    assert (done.changed, done.rewritten, done.stale) == (False, (str(sums),), ())
    assert sums.read_text() == line.format(_hash(path, algorithm))
    assert put(str(path), rewrite_checksums=True).rewritten == ()


@pytest.mark.parametrize(
    ("name", "line", "algorithm"),
    [
        ("a.tar.sha256", "{}  a.tar\n", "sha256"),
        ("a.tar.sha256", "{}\n", "sha256"),
        ("a.tar.md5", "{} *a.tar\n", "md5"),
        ("shop_1.0_checksums.txt", "1111  b.tar\n{}  a.tar\n", "sha256"),
        ("SHA256SUMS.txt", "{}  a.tar\n", "sha256"),
        ("CHECKSUMS", "{}  a.tar\n", "sha384"),
        ("SHA512SUMS", "SHA512 (a.tar) = {}\n", "sha512"),
    ],
)
def test_checksums_are_written_again_on_request(path: Path, name: str, line: str, algorithm: str) -> None:
    sums = path.with_name(name)
    sums.write_text(line.format(_hash(path, algorithm).upper()))
    done = put(str(path), rewrite_checksums=True)
    assert sums.read_text() == line.format(_hash(path, algorithm))
    assert done.rewritten == (str(sums),)
    assert done.stale == ()


def test_a_checksum_that_was_wrong_before_stays_wrong(path: Path) -> None:
    sums = path.with_name("a.tar.sha256")
    sums.write_text("0" * 64 + "  a.tar\n")
    done = put(str(path), rewrite_checksums=True)
    assert sums.read_text() == "0" * 64 + "  a.tar\n"
    assert done.stale == (str(sums),)


def test_signatures_of_a_rewritten_list_are_named(path: Path) -> None:
    path.with_name("SHA256SUMS").write_text(f"{_hash(path)}  a.tar\n")
    path.with_name("SHA256SUMS.sig").write_bytes(b"signature")
    done = put(str(path), rewrite_checksums=True)
    assert [Path(place).name for place in done.stale] == ["SHA256SUMS.sig"]
    assert path.with_name("SHA256SUMS.sig").read_bytes() == b"signature"


def test_lists_of_longer_names_and_fifos_are_left_out(path: Path) -> None:
    path.with_name("SHA256SUMS").write_text("0" * 64 + "  a.tar.gz\n" + "1" * 64 + "  data.tar\n")
    os.mkfifo(path.with_name("sha512sums"))
    assert put(str(path)).stale == ()
