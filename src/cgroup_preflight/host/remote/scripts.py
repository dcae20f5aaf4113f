"""Scripts for the shell of another machine that write and remove files. Pure; every word of them is quoted."""

import posixpath
from collections.abc import Iterable, Iterator, Mapping

from cgroup_preflight.host.remote.shell import Script, octal, quoted

#: Bytes that one line of a script carries.
PIECE = 1 << 15
_SECONDS = 60.0
#: Where a private folder may be, best first: what is in memory goes with a restart. That of a root's session goes with its end.
_PLACES = '$([ "$(id -u)" = 0 ] && echo /run || echo "$XDG_RUNTIME_DIR") /var/tmp /tmp'
#: What must be free there, in KiB (POSIX df: name, blocks, used, available).
_FREE = 128 << 10
#: Removes a folder when a process has ended. A program of its own: a part of the shell would keep descriptors of it.
_CLEANER = 'trap "" HUP; while [ -d "$0" ] && kill -0 "$1"; do sleep 2; done; rm -rf -- "$0"'


def write_all(folder: str, contents: Mapping[str, bytes], word: str) -> Iterator[Script]:
    """Writes files below a folder, each under a name with `word` first; the folder has a new time then.

    With as few programs as that takes. A new name in a folder gives it a new time.
    """
    below = sorted({posixpath.dirname(posixpath.join(folder, name)) for name in contents} | {folder})
    exist = " && ".join(f"[ -d {quoted((path,))} ]" for path in below)
    steps = (f"{{ {exist} || mkdir -p -- {quoted(below)}; }}",
             *(_written(posixpath.join(folder, name), data, word) for name, data in contents.items()))  # fmt: skip
    yield Script(text=" &&\n".join(steps), seconds=_SECONDS)
    if all("/" in name for name in contents):
        yield Script(text=f"touch -c -- {quoted((folder,))}", seconds=_SECONDS)


def _written(path: str, data: bytes, word: str) -> str:
    there = quoted((f"{posixpath.dirname(path)}/.cgroup-preflight-{word}",))
    pieces = [data[at : at + PIECE] for at in range(0, len(data), PIECE)] or [b""]
    first, *more = (f"printf {quoted((octal(piece),))}" for piece in pieces)
    steps = (
        f"(umask 022; set -C; {first} > {there})", *(f"{piece} >> {there}" for piece in more),
        f"mv -f -T -- {there} {quoted((path,))}",
    )  # fmt: skip
    return f"{{ {{ {' && '.join(steps)}; }} || {{ rm -f -- {there}; false; }}; }}"


def private_folder(prefix: str) -> Script:
    """Prints the path of a new folder for this user alone, where programs may be executed and there is some space.

    A process removes it when the shell has ended, as after a lost connection: whoever uses it may be gone before it has
    arranged anything else.
    """
    name = quoted((prefix,))
    text = f"""
s=
for d in {_PLACES}; do
    [ -d "$d" ] && [ -w "$d" ] || continue
    f=$(df -Pk -- "$d" 2>/dev/null | tail -n 1 | {{ read -r a b c d e; echo "$d"; }})
    s="$s, ${{f:-?}} KiB free in $d"
    [ "${{f:-0}}" -ge {_FREE} ] 2>/dev/null || continue
    p=$(mktemp -d -- "$d"/{name}XXXXXXXXXX) || continue
    printf '#!/bin/sh\\n' > "$p/try" && chmod 700 "$p/try" && "$p/try" && rm -f -- "$p/try" && echo "$p" && break
    rm -rf -- "$p"
done 2>/dev/null
[ -n "$p" ] && [ -d "$p" ] || {{ echo "no folder with space in which programs may be executed ({_FREE} KiB needed$s)" >&2; exit 1; }}
sh -c {quoted((_CLEANER,))} "$p" $$ </dev/null >/dev/null 2>&1 3>&- &"""
    return Script(text=text, seconds=_SECONDS)


def remove_private(prefix: str) -> Script:
    """Removes what `private_folder` made with this prefix, and nothing of other users."""
    text = f"""
for d in {_PLACES}; do
    [ -d "$d" ] || continue
    for p in "$d"/{quoted((prefix,))}*; do [ -O "$p" ] && [ ! -L "$p" ] && rm -rf -- "$p"; done
done
true"""
    return Script(text=text, seconds=_SECONDS)


def fifo(path: str) -> Script:
    """Makes a FIFO."""
    return Script(text=f"mkfifo -m 600 -- {quoted((path,))}")


def fed(path: str, line: str) -> Script:
    """Writes a line into a FIFO. Opened for reading, too, it waits for nobody."""
    data = f"{line}\n".encode()
    return Script(text=f"printf {quoted((octal(data),))} 1<>{quoted((path,))}")


def remove(paths: Iterable[str]) -> Script:
    """Removes files and whole folders."""
    return Script(text=f"rm -rf -- {quoted(tuple(paths))}", seconds=_SECONDS)
