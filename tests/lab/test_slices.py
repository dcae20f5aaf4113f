"""`slices`: systemd itself accepts every generated file, and the same config gives the same bytes."""

import json
from collections.abc import Iterator

import pytest

from cgroup_preflight.config.properties import PROPERTIES
from cgroup_preflight.guest.session import Guest
from cgroup_preflight.plan.unit_syntax import specifiers, variable_line
from cgroup_preflight.plan.unitfile import service_text
from tests.lab.configs import ENVIRONMENT, Lab, config, fixture

#: Each property once, in its own example; a nested slice whose parent is only implied.
_ALL = {
    section: {item.name: item.example for item in PROPERTIES if item.since <= 252 and section in item.sections}
    for section in ("Slice", "Service")
}
_CONFIG = config(
    {
        "plain": fixture("server", slice="api", MemoryMax="64M"),
        "nested": fixture("server", slice="batch-nightly", CPUQuota="12.5%"),
        "bare": fixture("server"),
        "all": fixture("server", slice="every", **_ALL["Service"]),
    },
    {"api": {"MemoryMax": "192M", "CPUWeight": 80}, "batch-nightly": {"TasksMax": "10%"}, "every": _ALL["Slice"]},
)


@pytest.fixture
def lab(guest: Guest) -> Iterator[Lab]:
    yield Lab(guest)
    guest.run(["rm", "-rf", "/var/tmp/units"])


def _slices(lab: Lab, out: str) -> None:
    folder = lab.write("slices", _CONFIG)
    argv = ["python3", "-m", "cgroup_preflight", "slices", "--out", out]
    done = lab.guest.run(argv, cwd=folder, env=ENVIRONMENT)
    assert (done.returncode, done.stdout) == (0, b""), done


def test_systemd_accepts_every_file(lab: Lab) -> None:
    _slices(lab, "/var/tmp/units")
    files = sorted(lab.shell("cd /var/tmp/units && find . -type f").split())
    names = [file.removeprefix("./") for file in files]
    slices = [name for name in names if name.endswith(".slice")]
    assert slices == ["api.slice", "batch-nightly.slice", "batch.slice", "every.slice"]
    services = [name.partition(".d/")[0] for name in names if ".d/" in name]
    assert services == ["all.service", "bare.service", "nested.service", "plain.service"]
    for name in services:
        lab.guest.write_file(f"/var/tmp/units/{name}", b"[Service]\nExecStart=/bin/true\n")
    units = " ".join(f"/var/tmp/units/{name}" for name in (*slices, *services))
    verify = "SYSTEMD_UNIT_PATH=/var/tmp/units: systemd-analyze verify --man=no --recursive-errors=yes"
    assert lab.shell(f"{verify} {units} 2>&1") == ""
    # The same call is able to fail.
    lab.shell("sed -i s/MemoryMax=64M/MemoryMax=64MB/ /var/tmp/units/plain.service.d/*.conf")
    done = lab.guest.run(["sh", "-c", f"{verify} {units}"])
    assert done.returncode != 0
    assert b"64MB" in done.stderr


def test_the_files_mean_what_the_config_says(lab: Lab) -> None:
    """Installed as they are, systemd and the kernel hold what the config asks for."""
    _slices(lab, "/run/systemd/system")
    lab.guest.write_file("/run/systemd/system/plain.service", b"[Service]\nExecStart=/bin/sleep 300\n")
    lab.guest.write_file("/run/systemd/system/nested.service", b"[Service]\nExecStart=/bin/sleep 300\n")
    try:
        lab.shell("systemctl daemon-reload; systemctl start plain nested")
        held = lab.shell(
            "cd /sys/fs/cgroup; cat api.slice/memory.max api.slice/cpu.weight api.slice/plain.service/memory.max"
            " batch.slice/batch-nightly.slice/nested.service/cpu.max"
        )
    finally:
        lab.shell(
            "systemctl stop plain nested api.slice batch.slice batch-nightly.slice; cd /run/systemd/system;"
            " for s in plain nested bare all; do rm -rf $s.service $s.service.d; done;"
            " rm api.slice batch.slice batch-nightly.slice every.slice; systemctl daemon-reload"
        )
    assert held.splitlines() == [str(192 << 20), "80", str(64 << 20), "12500 100000"]


def test_the_same_config_gives_the_same_bytes(lab: Lab) -> None:
    _slices(lab, "/var/tmp/units/one")
    _slices(lab, "/var/tmp/units/two")
    _slices(lab, "/var/tmp/units/two")
    assert lab.shell("diff -r /var/tmp/units/one /var/tmp/units/two") == ""
    sums = lab.shell("cd /var/tmp/units/one && find . -type f | wc -l")
    assert sums == "8\n"


_ODD = ("a b", "", "50%n", "$HOME", "${HOME}", "$$", 'say "x"', "it's", "back\\slash", "tab\there", "two\nlines", "é ☃", ";", "-",
        "\\x41", "#c", "end\\")  # fmt: skip


def test_a_unit_of_ours_gets_words_variables_and_folder_as_they_are(lab: Lab) -> None:
    """Whatever a config has as arguments: systemd reads it back as it was, and nothing of it becomes a setting."""
    script = "import json, os, sys; print(json.dumps([sys.argv[1:], os.environ['V'], os.getcwd()]))"
    folder = "/var/tmp/50% $HOME \\t"
    lab.guest.run(["mkdir", folder])
    for value in _ODD:
        text = service_text(
            slice_unit="system.slice", command=("/usr/bin/python3", "-c", script, *_ODD), output="/run/odd.json", user=None,
            lines=(variable_line("V", value), f"WorkingDirectory={specifiers(folder)}"), stays=False,
        )  # fmt: skip
        lab.guest.write_file("/run/systemd/system/odd.service", text.encode())
        lab.shell("rm -f /run/odd.json; systemctl daemon-reload; systemctl start --wait odd.service")
        assert json.loads(lab.guest.read_file("/run/odd.json")) == [list(_ODD), value, folder]
    lab.shell(
        "rm /run/systemd/system/odd.service /run/odd.json; rmdir '/var/tmp/50% $HOME \\t'; systemctl daemon-reload"
    )
