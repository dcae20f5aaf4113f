"""Signatures and checksums of an artifact: a change makes them wrong; checksums can be corrected."""

import hashlib
import os
import re
from collections.abc import Iterable

from cgroup_preflight.artifacts.model import CHUNK
from cgroup_preflight.core.records import dataclass
from cgroup_preflight.host.files import NotRegularError, open_regular, replacing

#: Suffixes of files next to an artifact that contain a signature, certificate or attestation of it.
_SIGNATURES = (".sig", ".asc", ".sign", ".gpg", ".minisig", ".sigstore", ".sigstore.json", ".pem", ".cert", ".bundle",
               ".intoto.jsonl", ".att", ".zsync")  # fmt: skip
_ALGORITHMS = ("md5", "sha1", "sha224", "sha256", "sha384", "sha512")
#: Lists that several artifacts share; goreleaser's is PROJECT_VERSION_checksums.txt.
_HASH = "(?:md5|sha1|sha224|sha256|sha384|sha512)"
_LIST = re.compile(rf".*checksums?(?:\.txt)?|{_HASH}sums?(?:\.txt)?|.*\.{_HASH}(?:sums?)?", re.IGNORECASE)
#: Debian's upload files sign the packages that they list.
_LISTS_SIGNED = (".changes", ".buildinfo")
_TEXT_MAX = 4 << 20
_DIGEST = re.compile(r"(?<![0-9a-fA-F])[0-9a-fA-F]{32,128}(?![0-9a-fA-F])")


@dataclass(frozen=True, slots=True, kw_only=True)
class SideFile:
    """A file next to the artifact: `digest` is the algorithm of a checksum that matches now, empty for signatures."""

    path: str
    digest: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Digests:
    """The artifact's digests by algorithm, in hexadecimal."""

    by_name: dict[str, str]

    @property
    def sha256(self) -> str:
        """The one that reports give."""
        return self.by_name["sha256"]


def digests(path: str, names: Iterable[str] = ("sha256",)) -> Digests:
    """The digests of a file, read once."""
    found = {name: hashlib.new(name, usedforsecurity=False) for name in {"sha256", *names}}
    with open(path, "rb", buffering=0) as file:
        while chunk := file.read(CHUNK):
            for item in found.values():
                item.update(chunk)
    return Digests(by_name={name: item.hexdigest() for name, item in found.items()})


def candidates(path: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Files next to `path` that may sign it, and those that may contain its checksum; both sorted."""
    folder, name = os.path.split(path)
    signatures, lists = [], []
    for other in sorted(os.listdir(folder or ".")):
        place = os.path.join(folder, other)
        suffix = other.removeprefix(name) if other.startswith(name) else ""
        if suffix in _SIGNATURES:
            signatures.append(place)
        elif other != name and _LIST.fullmatch(other) and (suffix or _names(place, name)):
            lists.append(place)
        elif other.endswith(_LISTS_SIGNED) and _names(place, name):
            signatures.append(place)
    for place in lists:
        signatures += [place + suffix for suffix in _SIGNATURES if os.path.exists(place + suffix)]
    return tuple(signatures), tuple(lists)


def algorithms(lists: Iterable[str]) -> tuple[str, ...]:
    """Which digests the lists may contain: all of them, unless there is no list."""
    return _ALGORITHMS if any(lists) else ("sha256",)


def stale(path: str, before: Digests) -> tuple[SideFile, ...]:
    """What a change of `path` makes wrong: signatures, and checksums that match now or that name it."""
    signatures, lists = candidates(path)
    found = [SideFile(path=place) for place in signatures]
    for place in lists:
        text = (_text(place) or "").lower()
        digest = next((name for name, value in before.by_name.items() if value in text), "")
        found.append(SideFile(path=place, digest=digest or "unknown"))
    return tuple(found)


def outdated(path: str, now: Digests) -> tuple[SideFile, ...]:
    """Lists next to `path` that contain no digest of it as it is: an earlier change made them wrong."""
    texts = {place: (_text(place) or "").lower() for place in candidates(path)[1]}
    return tuple(
        SideFile(path=place, digest="unknown")
        for place, text in texts.items()
        if not any(value in text for value in now.by_name.values())
    )


def rewrite(item: SideFile, before: Digests, after: Digests, name: str = "") -> bool:
    """Replaces the old digest by the new one; False where the file did not contain the old one.

    With `name`, that of an artifact which an earlier injection changed: else the digest on the lines that name it.
    Without, a checksum that did not match before stays as it is, because a correction would hide that.
    """
    text = _text(item.path)
    if text is None:
        return False
    fresh = text
    if item.digest in before.by_name:
        old = before.by_name[item.digest]
        fresh = re.sub(rf"(?<![0-9a-fA-F]){old}(?![0-9a-fA-F])", after.by_name[item.digest], text, flags=re.IGNORECASE)
    if fresh == text and name:
        own = os.path.basename(item.path).startswith(name)
        fresh = "".join(_corrected(line, name, after, own=own) for line in text.splitlines(keepends=True))
    if fresh == text:
        return False
    try:
        source = open_regular(item.path, follow=False)
    except NotRegularError:
        return False  # a link: what it leads to may be anywhere
    with source, replacing(item.path, source) as sink:
        sink.write(fresh.encode("utf-8", "surrogateescape"))
    return True


def _corrected(line: str, name: str, after: Digests, *, own: bool) -> str:
    """The line with the digest of the artifact, if it names it; a line of its `own` list may be a digest alone."""
    found = _DIGEST.findall(line)
    if len(found) != 1 or not (_is_named(line, name) or (own and line.strip() == found[0])):
        return line
    algorithm = next(
        (item for item in _ALGORITHMS if hashlib.new(item, usedforsecurity=False).digest_size * 2 == len(found[0])), ""
    )
    return line.replace(found[0], after.by_name[algorithm]) if algorithm in after.by_name else line


def _names(place: str, name: str) -> bool:
    return _is_named(_text(place) or "", name)


def _is_named(text: str, name: str) -> bool:
    """Whether a text names the artifact, and not only one whose name contains this name."""
    return re.search(rf"(?<![\w.+~-]){re.escape(name)}(?![\w.+~-])", text) is not None


def _text(path: str) -> str | None:
    """A text file of a size that such files have, else None."""
    try:
        with open_regular(path, follow=True) as file:
            data = file.read(_TEXT_MAX + 1)
    except OSError:
        return None
    return data.decode("utf-8", "surrogateescape") if len(data) <= _TEXT_MAX else None
