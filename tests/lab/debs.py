"""Debian packages for the lab, built by dpkg-deb: a service in Python, its unit, and maintainer scripts."""

import io
import subprocess
import tarfile
from collections.abc import Mapping
from pathlib import Path

#: What debhelper writes for a unit (dh_installsystemd): enable and start it, stop it, forget it.
POSTINST = """#!/bin/sh
set -e
if [ "$1" = configure ]; then
    systemd-sysusers NAME.conf
    deb-systemd-helper unmask NAME.service >/dev/null || true
    if deb-systemd-helper --quiet was-enabled NAME.service; then
        deb-systemd-helper enable NAME.service >/dev/null || true
    else
        deb-systemd-helper update-state NAME.service >/dev/null || true
    fi
    if [ -d /run/systemd/system ]; then
        systemctl --system daemon-reload >/dev/null || true
        if [ -n "$2" ]; then action=restart; else action=start; fi
        deb-systemd-invoke $action NAME.service >/dev/null || true
    fi
fi
"""
PRERM = """#!/bin/sh
set -e
if [ "$1" = remove ] && [ -d /run/systemd/system ]; then
    deb-systemd-invoke stop NAME.service >/dev/null || true
fi
"""
POSTRM = """#!/bin/sh
set -e
if [ "$1" = remove ] && [ -d /run/systemd/system ]; then
    systemctl --system daemon-reload >/dev/null || true
fi
if [ "$1" = purge ] && [ -x /usr/bin/deb-systemd-helper ]; then
    deb-systemd-helper purge NAME.service >/dev/null || true
    rm -rf /var/lib/NAME
fi
"""
UNIT = """[Unit]
Description=NAME
After=network.target

[Service]
User=NAME
StateDirectory=NAME
EnvironmentFile=/etc/default/NAME
ExecStart=/usr/bin/python3 /usr/lib/NAME/serve.py

[Install]
WantedBy=multi-user.target
"""
PROGRAM = """
import os, time
assert os.environ["WORD"] == "from-the-package"
open(os.path.join(os.environ["STATE_DIRECTORY"], "data"), "w").close()
print("serves", flush=True)
time.sleep(600)
"""


def build(
    folder: Path, name: str, version: str, *, limits: str = "", scripts: Mapping[str, str] | None = None, unit: str = UNIT,
) -> Path:  # fmt: skip
    """A package of the service `name`; `limits` are lines of a drop-in as `inject` writes it, in a slice of its own."""
    root, own_slice = folder / f"{name}-{version}", name.partition("-")[2]
    files = {
        "DEBIAN/control": f"Package: {name}\nVersion: {version}\nArchitecture: all\nMaintainer: lab <lab@example.org>\n"
        "Description: lab\n",
        "DEBIAN/conffiles": f"/etc/default/{name}\n",
        f"etc/default/{name}": "WORD=from-the-package\n",
        f"usr/lib/{name}/serve.py": PROGRAM,
        f"usr/lib/sysusers.d/{name}.conf": f"u {name} -\n",
        f"lib/systemd/system/{name}.service": unit.replace("NAME", name),
    }
    if limits:
        place = f"usr/lib/systemd/system/{name}.service.d/10-cgroup-preflight-{name}.conf"
        files[place] = f"[Service]\nSlice={own_slice}.slice\n{limits}\n"
        files[f"usr/lib/systemd/system/{own_slice}.slice.d/10-cgroup-preflight-{name}.conf"] = "[Slice]\nTasksMax=100\n"
    given = {"postinst": POSTINST, "prerm": PRERM, "postrm": POSTRM} if scripts is None else scripts
    files |= {f"DEBIAN/{script}": text.replace("NAME", name) for script, text in given.items()}
    for path, text in files.items():
        place = root / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)
        place.chmod(0o755 if path in ("DEBIAN/postinst", "DEBIAN/prerm", "DEBIAN/postrm", "DEBIAN/preinst") else 0o644)
    target = folder / f"{name}_{version}_all.deb"
    subprocess.run(
        ("dpkg-deb", "--root-owner-group", "-Zxz", "-b", str(root), str(target)), check=True, capture_output=True
    )
    return target


def release(folder: Path, name: str, version: str, *, limits: str) -> Path:
    """A tar archive with one top folder, as GoReleaser wraps one; its unit has the limits itself."""
    top = f"{name}-{version}"
    unit = (
        UNIT.replace("User=NAME\n", "")
        .replace("[Install]", f"Slice={name.partition('-')[2]}.slice\n{limits}\n[Install]")
        .replace("NAME", name)
    )
    files = {
        f"etc/default/{name}": "WORD=from-the-package\n",
        f"usr/lib/{name}/serve.py": PROGRAM,
        f"usr/lib/systemd/system/{name}.service": unit,
    }
    target = folder / f"{top}.tar.gz"
    with tarfile.open(target, "w:gz") as archive:
        for path, text in files.items():
            info = tarfile.TarInfo(f"{top}/{path}")
            info.size, info.mode = len(text), 0o644
            archive.addfile(info, io.BytesIO(text.encode()))
    return target
