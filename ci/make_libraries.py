"""Write guest/libraries.py: which package of each Debian release brings a common shared library.

The names follow from Debian's rule (Debian Policy, 8.1), with the ending `t64` of the move to 64-bit times; a name counts
only if the release's package index has it. Names that the rule does not give are below; where the index lacks one, too,
the release has no such library.
"""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from cgroup_preflight.guest.programs import policy_name
from cgroup_preflight.guest.recipe import SUITES
from cgroup_preflight.guest.tools import KEYRING

TARGET = Path(__file__).parents[1] / "src" / "cgroup_preflight" / "guest" / "libraries.py"
#: Packages whose name is not that of the library; the first that a release has counts.
NAMED = {
    "libbrotlidec.so.1": ("libbrotli1",), "libpam.so.0": ("libpam0t64", "libpam0g"), "libsnappy.so.1": ("libsnappy1v5",),
    "libssh.so.4": ("libssh-4",), "libxslt.so.1": ("libxslt1.1",),
    "libbz2.so.1.0": ("libbz2-1.0",), "libcurl-gnutls.so.4": ("libcurl3t64-gnutls", "libcurl3-gnutls"),
    "libdb-5.3.so": ("libdb5.3t64", "libdb5.3"), "libgcc_s.so.1": ("libgcc-s1",),
    "libgio-2.0.so.0": ("libglib2.0-0t64", "libglib2.0-0"), "libglib-2.0.so.0": ("libglib2.0-0t64", "libglib2.0-0"),
    "libgmodule-2.0.so.0": ("libglib2.0-0t64", "libglib2.0-0"), "libgobject-2.0.so.0": ("libglib2.0-0t64", "libglib2.0-0"),
    **{f"libicu{part}.so.{version}": (f"libicu{version}",) for part in ("data", "i18n", "uc") for version in (72, 76, 78)},
    "libjpeg.so.62": ("libjpeg62-turbo",), "liblber.so.2": ("libldap2",), "liblber-2.5.so.0": ("libldap-2.5-0",),
    "libldap.so.2": ("libldap2",), "libldap-2.5.so.0": ("libldap-2.5-0",), "libm.so.6": ("libc6",),
    "libcrypto.so.3": ("libssl3t64", "libssl3"), "libpixman-1.so.0": ("libpixman-1-0",),
    "libpython3.11.so.1.0": ("libpython3.11",), "libpython3.13.so.1.0": ("libpython3.13",),
    "libpython3.14.so.1.0": ("libpython3.14",), "libxml2.so.16": ("libxml2-16",),
    "libstdc++.so.6": ("libstdc++6",), "libxml2.so.2": ("libxml2",), "libz.so.1": ("zlib1g",),
}  # fmt: skip
#: Libraries that services are often linked with.
_RULED = """
libGL.so.1 libEGL.so.1 libX11.so.6 libXext.so.6 libasound.so.2 libatomic.so.1 libbsd.so.0
libcap.so.2 libcares.so.2 libcom_err.so.2 libcrypt.so.1 libcups.so.2 libcurl.so.4 libdbus-1.so.3 libedit.so.2 libelf.so.1
libev.so.4 libevent-2.1.so.7 libexpat.so.1 libffi.so.8 libfontconfig.so.1 libfreetype.so.6 libgd.so.3 libgeoip.so.1
libgmp.so.10 libgnutls.so.30 libgomp.so.1 libgssapi_krb5.so.2 libhiredis.so.0.14 libidn2.so.0 libjansson.so.4
libjemalloc.so.2 libjson-c.so.5 libk5crypto.so.3 libkrb5.so.3 libkrb5support.so.0 libkmod.so.2 libleveldb.so.1d
liblmdb.so.0 liblua5.1.so.0 liblua5.4.so.0 libluajit-5.1.so.2 liblz4.so.1 liblzma.so.5 libmagic.so.1 libmariadb.so.3
libmemcached.so.11 libmicrohttpd.so.12 libmosquitto.so.1 libmount.so.1 libncursesw.so.6 libnghttp2.so.14 libnl-3.so.200
libnuma.so.1 libodbc.so.2 libpcap.so.0.8 libpcre.so.3 libpcre2-8.so.0 libpng16.so.16 libpq.so.5
libprotobuf.so.32 libpsl.so.5 librabbitmq.so.4 librdkafka.so.1 libreadline.so.8 librtmp.so.1 libsasl2.so.2 libseccomp.so.2
libselinux.so.1 libsnmp.so.40 libsodium.so.23 libsqlite3.so.0 libssh2.so.1 libssl.so.3
libsystemd.so.0 libtinfo.so.6 libtirpc.so.3 libudev.so.1 libunwind.so.8 liburing.so.2 libuuid.so.1 libuv.so.1
libwebp.so.7 libyaml-0.so.2 libzmq.so.5 libzstd.so.1
"""


def main() -> None:
    """Download the package indexes with mmdebstrap's settings of apt and its options of the command line; write the table."""
    indexes = [_index(suite) for suite in SUITES.values()]
    lines = []
    for soname in sorted({*NAMED, *_RULED.split()}):
        name = policy_name(soname)
        wanted = NAMED.get(soname, (f"{name}t64", name))
        found = tuple(next((item for item in wanted if item in index), "") for index in indexes)
        if any(found):
            lines.append(f"    {json.dumps(soname)}: ({', '.join(map(json.dumps, found))}),\n")
        else:
            print(f"{soname}: no release has {wanted}", file=sys.stderr)
    TARGET.write_text(
        f'"""Packages of common shared libraries, by ci/make_libraries.py from Debian\'s indexes of {time.strftime("%Y-%m-%d")}."""\n\n'
        f"#: The package in {', in '.join(SUITES)}; empty where the release has no such library.\n"
        f"LIBRARIES: dict[str, tuple[str, ...]] = {{\n{''.join(lines)}}}\n"
    )


def _index(suite: str) -> frozenset[str]:
    """The names of all packages of a release."""
    with tempfile.TemporaryDirectory() as folder:
        argv = ("mmdebstrap", "--quiet", "--variant=extract", "--format=directory", "--mode=root", f"--keyring={KEYRING}",
                "--skip=chroot/mount,cleanup/apt", *sys.argv[1:], suite, f"{folder}/root")  # fmt: skip
        subprocess.run(argv, check=True)
        files = Path(folder, "root/var/lib/apt/lists").glob("*_Packages")
        return frozenset(
            line.removeprefix("Package: ")
            for file in files
            for line in file.read_text().splitlines()
            if line.startswith("Package: ")
        )


if __name__ == "__main__":
    main()
