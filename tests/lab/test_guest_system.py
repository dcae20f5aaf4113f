"""What the guest's system gives to services, and what it says before the boot if it lacks something."""

import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.lab.configs import config, service
from tests.lab.test_guest_engine import Bench, job

_JOB = {"MemoryMax": "32M", "TasksMax": 16}


@pytest.fixture
def bench(tmp_path: Path, short_folder: Path) -> Bench:
    return Bench(tmp_path, short_folder)


def _of(report: dict[str, Any], code: str, subject: str) -> dict[str, Any]:
    (found,) = [item for item in report["findings"] if (item["code"], item["subject"]) == (code, subject)]
    return dict(found)


#: Each is a service of its own, in one boot: it ends with 0 if the guest gives it what it expects.
_SCRIPTS = {
    # The working folder is the config's folder, and all of it can be written to.
    "writes.sh": "#!/bin/sh\n[ $PWD = /run/preflight/in/project ] && echo x > state.db && mkdir data && echo '# more' >> writes.sh\n",
    "paths.sh": '#!/bin/sh\n[ "$(cat /etc/app/app.toml)" = "key = 1" ] && [ "$(cat /srv/one)" = one ] && echo z > /etc/app/new\n',
    # What is not handed in is not there, also not from this machine.
    "nopath.sh": "#!/bin/sh\n[ -e /etc/other/app.toml ]\n",
    # All that is below a folder, and nothing beside it.
    "files.sh": '#!/bin/sh\n[ "$(cat static/css/deep/a.css assets/deep/b)" = ab ] && ! [ -e other ]\n',
    "home.sh": '#!/bin/sh\n[ "$(id -un)" = root ] && touch "${HOME:-/root}/x" /tmp/x /var/tmp/x\n',
    # Lines that go to no output: to the journal's own socket, and to syslog's. One says nothing of the kind.
    "journal.py": "#!/usr/bin/python3\nimport socket, time\ns = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)\n"
    "s.sendto(b'MESSAGE=now ready\\n', '/run/systemd/journal/socket')\ntime.sleep(60)\n",
    "syslog.py": "#!/usr/bin/python3\nimport syslog, time\nsyslog.syslog('now ready')\ntime.sleep(60)\n",
    "silent.py": "#!/usr/bin/python3\nimport syslog, time\nsyslog.syslog('not yet')\ntime.sleep(60)\n",
}
#: Those that end by themselves.
_JOBS = ("writes.sh", "paths.sh", "nopath.sh", "files.sh", "home.sh")


def test_what_services_find_in_the_guest(bench: Bench) -> None:
    services = {name.partition(".")[0]: job(name) for name in _JOBS}
    for name in ("journal.py", "syslog.py", "silent.py"):
        patience = "4s" if name == "silent.py" else "15s"
        services[name.partition(".")[0]] = service(
            name, **_JOB, ready="log:now ready", smoke={"start_timeout": patience}
        )
    bench.write(config(services, target={"files": ["static/**", "assets/*/*"]}), _SCRIPTS)
    folders = (("static/css/deep/a.css", "a"), ("assets/deep/b", "b"), ("other/c", "c"))
    for path, text in folders:
        (bench.project / path).parent.mkdir(parents=True)
        (bench.project / path).write_text(text)
    with (bench.project / "cgroup-preflight.toml").open("a") as file:
        file.write('[target.paths]\n"/etc/app" = "deploy/etc"\n"/srv/one" = "deploy/one"\n')
    (bench.project / "deploy" / "etc").mkdir(parents=True)
    (bench.project / "deploy" / "etc" / "app.toml").write_text("key = 1\n")
    (bench.project / "deploy" / "one").write_text("one\n")
    status, report, err = bench.run("run", "--engine", "guest")
    assert report, err
    for name in ("writes", "paths", "files", "home", "journal", "syslog"):
        assert _of(report, "CGP503", name)["status"] == "pass", (name, report["services"], err)
    assert (status, _of(report, "CGP505", "silent")["status"]) == (1, "fail")
    assert _of(report, "CGP503", "nopath")["status"] == "fail"
    # And nothing of it came back.
    names = {"cgroup-preflight.toml", "deploy", *(path.partition("/")[0] for path, _ in folders), *_SCRIPTS}
    assert {path.name for path in bench.project.iterdir()} == names
    assert [path.name for path in (bench.project / "deploy" / "etc").iterdir()] == ["app.toml"]
    assert (bench.project / "writes.sh").read_text() == _SCRIPTS["writes.sh"]


@pytest.mark.parametrize("ready", ["tcp://[::1]:8080", "tcp://127.0.0.1:8080"])
def test_an_ipv6_address_gets_a_machine_with_ipv6(bench: Bench, ready: str) -> None:
    """And an IPv4 address does not."""
    bench.write(
        config({"web": service("web.py", **_JOB, ready=ready, smoke={"start_timeout": "60s"})}),
        {"web.py": "#!/usr/bin/python3\nimport socket, time\ns = socket.create_server(('::1' if socket.has_ipv6 and "
         f"{'[' in ready} else '127.0.0.1', 8080), family=socket.AF_INET6 if {'[' in ready} else socket.AF_INET)\n"
         "time.sleep(60)\n"},
    )  # fmt: skip
    status, report, err = bench.run("run", "--engine", "guest")
    (where,) = [item for item in report["findings"] if item["code"] == "CGP512"]
    assert where["evidence"]["machine"] == ("qemu" if "[" in ready else "uml")
    assert (status, report["verdict"]) == (0, "pass"), (report["findings"], err)


@pytest.mark.parametrize(
    ("pattern", "words"),
    [
        ("static/**", "matches no file"),
        ("other", "use other/** for all files in it"),
        ("~/site", "~ has no meaning here"),
    ],
)
def test_what_hands_nothing_in_is_told_before_the_boot(bench: Bench, pattern: str, words: str) -> None:
    """The other way: a pattern without a match, a folder's name and a home are mistakes, with their line."""
    bench.write(config({"job": job("job.sh")}, target={"files": [pattern]}), {"job.sh": "#!/bin/sh\nexit 0\n"})
    (bench.project / "other").mkdir()
    (bench.project / "other" / "file").write_text("one\n")
    status, report, err = bench.run("run", "--engine", "guest")
    assert (status, report) == (2, {}), report
    lines = (bench.project / "cgroup-preflight.toml").read_text().splitlines()
    at = next(number for number, line in enumerate(lines, 1) if line.startswith("files = "))
    assert f"cgroup-preflight.toml:{at}: " in err, err
    assert f"'{pattern}'" in err
    assert words in err


def test_all_that_the_image_lacks_is_told_before_the_boot(bench: Bench) -> None:
    """QEMU's own program stands for one of many libraries, and a script for one whose language is not installed."""
    services = {"one": job("one"), "two": job("two.rb"), "three": job("three.sh")}
    bench.write(config(services), {"two.rb": "#!/usr/bin/ruby\n", "three.sh": "#!/bin/sh\nexit 0\n"})
    shutil.copy(str(shutil.which("qemu-system-x86_64")), bench.project / "one")
    status, report, err = bench.run("run", "--engine", "guest")
    (found,) = [item for item in report["findings"] if item["code"] == "CGP512"]
    assert (status, found["status"]) == (3, "unverified"), err
    assert "libpixman-1.so.0 (needed by one)" in found["message"]
    assert "/usr/bin/ruby (needed by two.rb)" in found["message"]
    assert "three.sh" not in found["message"]
    assert "boot_seconds" not in found["evidence"]
    (title,) = [item["title"] for item in found["remedies"]]
    assert "[target.paths]" in title
    # The package that brings the library, and the key that asks for it.
    assert re.search(r'add packages = \[.*"libpixman-1-0".*\] to \[target\]', title), title


@pytest.mark.parametrize(("share", "status"), [("60%", 0), ("95%", 3)])
def test_a_share_of_the_memory_sizes_the_guest_or_is_refused(bench: Bench, share: str, status: int) -> None:
    bench.write(config({"job": job("job.sh", MemoryMax=share)}), {"job.sh": "#!/bin/sh\nexit 0\n"})
    found, report, err = bench.run("run", "--engine", "guest")
    assert found == status, (report["findings"], err)
    (where,) = [item for item in report["findings"] if item["code"] == "CGP512"]
    assert ("boot_seconds" in where["evidence"]) is (status == 0)
