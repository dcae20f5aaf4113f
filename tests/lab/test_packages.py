"""Built packages in a guest: installed by dpkg, started as installed, upgraded while they run, removed and purged.

One run of a package that does all of it well, of one whose upgrade leaves the old limits in the kernel, and of a tar
archive; a second one of packages whose scripts fail and hang.
"""

import hashlib
from pathlib import Path
from typing import Any

import pytest

from tests.lab.configs import report_of_run, said
from tests.lab.debs import POSTINST, POSTRM, PRERM, build, release

#: Loads the new unit files and leaves the service as it runs: systemd 257 then keeps the old limits in the kernel.
_ONLY_RELOADS = POSTINST.replace(
    'if [ -n "$2" ]; then action=restart; else action=start; fi', 'if [ -n "$2" ]; then exit 0; fi; action=start'
)
_FAILS = "#!/bin/sh\necho 'cannot reach the database' >&2\nexit 3\n"
_HANGS = "#!/bin/sh\necho 'waiting for an answer'\nsleep 1000\n"
_LEAVES = POSTRM.replace("deb-systemd-helper purge NAME.service >/dev/null || true", "true").replace("rm -rf", "true")


def _about(report: dict[str, Any], code: str, name: str, status: str) -> str:
    """The message of the one finding with this code about `name` that has this status."""
    (message,) = [text for found, text in said(report, name, status) if found == code]
    return message


def _service(name: str, more: str) -> str:
    own = name.partition("-")[2]
    return (
        f'[slices.{own}]\nTasksMax = 100\n[services.{name}]\nslice = "{own}"\nMemoryMax = "64M"\n{more}'
        f'[services.{name}.smoke]\nready = "log:serves"\nduration = "1s"\n'
    )


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The packages that install, and the config that names them."""
    folder = tmp_path_factory.mktemp("packages") / "project"
    folder.mkdir()
    text = '[project]\nname = "lab"\n[target]\nmachine = "uml"\n'
    scripts = {"prerm": PRERM, "postrm": POSTRM}
    for name, postinst in (("lab-good", POSTINST), ("lab-stale", _ONLY_RELOADS)):
        for version, limit in (("1.0", "48M"), ("1.1", "64M")):
            own = {**scripts, "postinst": postinst}
            build(folder, name, version, limits=f"MemoryMax={limit}", scripts=own)
        text += _service(name, f'package = "{name}_1.1_all.deb"\nprevious = "{name}_1.0_all.deb"\n')
    build(folder, "lab-bare", "1.0", scripts={**scripts, "postrm": _LEAVES, "postinst": POSTINST})
    text += _service("lab-bare", 'package = "lab-bare_1.0_all.deb"\n')
    release(folder, "lab-tar", "1.0", limits="MemoryMax=64M")
    text += _service("lab-tar", 'package = "lab-tar-1.0.tar.gz"\n')
    (folder / "cgroup-preflight.toml").write_text(text)
    return folder


@pytest.fixture(scope="module")
def report(project: Path) -> dict[str, Any]:
    """The report of one run of all of them."""
    return report_of_run(project, "debian-13", timeout=800)


_ALL = "lab-bare, lab-good, lab-stale, lab-tar-1.0.tar.gz"


@pytest.mark.parametrize("name", ["lab-bare", "lab-good", "lab-stale", "lab-tar"])
def test_a_service_starts_as_installed_and_passes_the_usual_test(report: dict[str, Any], name: str) -> None:
    passed = dict(said(report, name, "pass"))
    assert "2 limits are in force, read twice" in passed["CGP522"]
    by_whom = "started as installed" if name == "lab-tar" else "its package started it"
    assert passed["CGP522"].startswith(f"{by_whom} in /{name.partition('-')[2]}.slice/{name}.service")
    assert {"CGP501", "CGP502", "CGP503"} <= passed.keys()


def test_the_tested_file_is_the_built_one_and_whose_limits_it_had(report: dict[str, Any], project: Path) -> None:
    good = _about(report, "CGP520", "lab-good", "pass")
    digest = hashlib.sha256((project / "lab-good_1.1_all.deb").read_bytes()).hexdigest()
    assert digest in good
    bare = _about(report, "CGP520", "lab-bare", "warn")
    assert "has no limits for" in bare
    assert "lab-bare.service" in bare
    tar = _about(report, "CGP520", "lab-tar-1.0.tar.gz", "warn")
    assert "no limits for tar.slice" in tar, "the unit has its own, and the slice none"


def test_the_upgrade_of_a_package_that_restarts_passes_and_of_one_that_reloads_fails(report: dict[str, Any]) -> None:
    good = _about(report, "CGP523", "lab-good", "pass")
    assert "was started again" in good
    stale = _about(report, "CGP523", "lab-stale", "fail")
    assert f"memory.max is '{48 << 20}', expected '{64 << 20}'" in stale
    (finding,) = [item for item in report["findings"] if item["code"] == "CGP523" and item["subject"] == "lab-stale"]
    assert finding["evidence"]["stale.slice/lab-stale.service/memory.max, systemd's word"] == str(64 << 20)
    assert "systemd 257 keeps the old limits of running units in the kernel after a daemon-reload" in stale


def test_what_a_purge_leaves_is_named(report: dict[str, Any]) -> None:
    left = _about(report, "CGP524", _ALL, "fail")
    assert "/etc/systemd/system/multi-user.target.wants/lab-bare.service" in left
    assert "lab-good" not in left
    after = _about(report, "CGP524", "lab-good, lab-stale", "pass")
    assert "nothing of it is left" in after
    (first,) = [item for item in report["findings"] if item["code"] == "CGP524" and item["subject"] == _ALL]
    assert "user lab-good" in first["evidence"]["stays"], "what may stay is listed"


def test_scripts_that_fail_and_hang_are_named_with_their_output(tmp_path: Path) -> None:
    folder = tmp_path / "project"
    folder.mkdir()
    text = '[project]\nname = "lab"\n[target]\nmachine = "uml"\ninstall_timeout = "20s"\n'
    for name, script in (("lab-fails", _FAILS), ("lab-hangs", _HANGS)):
        build(folder, name, "1.0", limits="MemoryMax=64M", scripts={"postinst": script})
        text += _service(name, f'package = "{name}_1.0_all.deb"\n')
    (folder / "cgroup-preflight.toml").write_text(text)
    report = report_of_run(folder, "debian-12")
    assert report["verdict"] == "fail"
    message = _about(report, "CGP521", "lab-fails, lab-hangs", "fail")
    assert "did not end within" in message
    assert "at lab-hangs; its output so far ends with: waiting for an answer" in message
    (finding,) = [item for item in report["findings"] if item["code"] == "CGP521"]
    assert "cannot reach the database" in finding["evidence"]["output"]
    assert "returned error exit status 3" in finding["evidence"]["output"]
    assert report["services"] == []
