"""The keys that decide whether a service starts, for projects without a unit file: with each, and without what it needs.

One run of all of them from the command line, in a guest; the services that cannot work are next to those that do.
"""

from pathlib import Path
from typing import Any

import pytest

from tests.lab.configs import report_of_run, said
from tests.unit.engines import certificates

_LOOK = """#!/usr/bin/python3
import getpass, os, resource, sys, time
assert getpass.getuser() == "shop", getpass.getuser()
assert os.getcwd() == "/var/lib/shop", os.getcwd()
assert os.environ["STATE_DIRECTORY"] == "/var/lib/shop" and os.access(".", os.W_OK)
for name, folder in (("RUNTIME", "/run"), ("CACHE", "/var/cache"), ("LOGS", "/var/log")):
    assert os.environ[name + "_DIRECTORY"] == folder + "/shop", name
    assert os.access(folder + "/shop", os.W_OK), folder
assert os.environ["WORD"] == "from-the-file", os.environ
assert resource.getrlimit(resource.RLIMIT_NOFILE) == (2048, 4096)
status = open("/proc/self/status").read()
assert "CapAmb:\\t0000000000000400" in status, status  # CAP_NET_BIND_SERVICE
print("all as the config says", flush=True)
time.sleep(600)
"""
_NOTIFY = """#!/usr/bin/python3
import os, socket, time
time.sleep(1)
line = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
address = os.environ["NOTIFY_SOCKET"]
line.connect("\\0" + address[1:] if address.startswith("@") else address)
line.send(b"READY=1")
time.sleep(600)
"""
_WAIT = "#!/usr/bin/python3\nimport time\ntime.sleep(600)\n"
_ENDS = "#!/usr/bin/python3\nraise SystemExit(75)\n"
#: Gives up by itself what its keys gave it: prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL).
_CHANGES = """#!/usr/bin/python3
import ctypes, os, time
os.chdir("/usr")
assert ctypes.CDLL(None).prctl(47, 4, 0, 0, 0) == 0
time.sleep(600)
"""
_TLS = """#!/usr/bin/python3
import http.server, ssl, sys
server = http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), http.server.SimpleHTTPRequestHandler)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain("certs/cert.pem", "certs/key.pem")
server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
"""
_PROGRAMS = {"changes": _CHANGES, "tls": _TLS, "look": _LOOK, "notify": _NOTIFY, "wait": _WAIT, "ends": _ENDS}
_CONFIG = """
[project]
name = "lab"
[target]
machine = "uml"
[target.paths]
"/etc/lab.env" = "lab.env"
"/srv/certs" = "certs"

[services.tls]
binary = "tls"
WorkingDirectory = "/srv"
MemoryMax = "64M"
smoke.args = ["8443"]
smoke.ready = "https://localhost:8443/"
smoke.ready_ca = "certs/ca.pem"

[services.untrusted]
binary = "tls"
WorkingDirectory = "/srv"
MemoryMax = "64M"
smoke.args = ["8444"]
smoke.ready = "https://127.0.0.1:8444/"

[services.looks]
binary = "look"
User = "shop"
Group = "shop"
StateDirectory = "shop"
RuntimeDirectory = "shop"
CacheDirectory = "shop"
LogsDirectory = "shop"
WorkingDirectory = "/var/lib/shop"
EnvironmentFile = ["/etc/lab.env", "-/etc/absent.env"]
AmbientCapabilities = "CAP_NET_BIND_SERVICE"
LimitNOFILE = "2048:4096"
MemoryMax = "64M"
smoke.ready = "log:all as the config says"

[services.changes]
binary = "changes"
User = "shop"
WorkingDirectory = "/run"
AmbientCapabilities = "CAP_NET_ADMIN"
MemoryMax = "64M"

[services.too-many-files]
binary = "wait"
LimitNOFILE = 2000000000
MemoryMax = "64M"

[services.tells]
binary = "notify"
Type = "notify"
OOMPolicy = "kill"
CPUWeight = 80
StartupCPUWeight = 50
MemoryMax = "64M"

[services.continues]
binary = "wait"
OOMPolicy = "continue"
MemoryMax = "64M"

[services.silent]
binary = "wait"
Type = "notify"
MemoryMax = "64M"

[services.ends-well]
binary = "ends"
Type = "oneshot"
SuccessExitStatus = "TEMPFAIL SIGKILL"
MemoryMax = "64M"

[services.ends-badly]
binary = "ends"
Type = "oneshot"
SuccessExitStatus = "76"
MemoryMax = "64M"

[services.no-file]
binary = "wait"
EnvironmentFile = "/etc/absent.env"
MemoryMax = "64M"

[services.no-folder]
binary = "wait"
WorkingDirectory = "/absent"
MemoryMax = "64M"
"""
_HOLD = "smoke.duration = '1s'\nsmoke.start_timeout = '20s'\n"


def _project(folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / "lab.env").write_text("WORD=from-the-file\n")
    (folder / "certs").mkdir()
    certificates.make(folder / "certs")
    for name, text in _PROGRAMS.items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    text = _CONFIG.replace('MemoryMax = "64M"\n', f'MemoryMax = "64M"\n{_HOLD}')
    (folder / "cgroup-preflight.toml").write_text(text)


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The report of one run of all services."""
    folder = tmp_path_factory.mktemp("start") / "project"
    _project(folder)
    return report_of_run(folder, "debian-12")


@pytest.mark.parametrize("name", ["looks", "tells", "continues", "ends-well", "tls"])
def test_a_service_starts_as_its_keys_say(report: dict[str, Any], name: str) -> None:
    assert said(report, name, "fail", "unverified") == []
    assert "CGP503" in [code for code, _ in said(report, name, "pass")]


def test_what_the_process_shows_of_its_keys_is_read_back(report: dict[str, Any]) -> None:
    (text,) = [text for code, text in said(report, "looks", "pass") if code == "CGP516"]
    for name in ("User", "Group", "WorkingDirectory", "AmbientCapabilities", "LimitNOFILE"):
        assert name in text
    warned = [text for code, text in said(report, "changes", "warn") if code == "CGP516"]
    assert warned == [
        "WorkingDirectory=/run, but the main process has /usr",
        "AmbientCapabilities=CAP_NET_ADMIN, but the main process has not CAP_NET_ADMIN",
    ]
    (failed,) = said(report, "too-many-files", "fail")
    assert failed[0] == "CGP516"
    assert failed[1].startswith("LimitNOFILE=2000000000, but the main process has a hard limit of ")


@pytest.mark.parametrize(("name", "group"), [("tells", "1"), ("continues", "0")])
def test_the_policy_of_kills_is_read_back_from_the_kernel_and_from_systemd(
    report: dict[str, Any], name: str, group: str
) -> None:
    (service,) = [item for item in report["services"] if item["name"] == name]
    limits = {item["file"].rpartition("/")[2]: item["actual"] for item in service["limits"]}
    assert limits["memory.oom.group"] == group
    assert "CGP513" in [code for code, text in said(report, name, "pass") if text.startswith("OOMPolicy")]


def test_the_weight_of_boot_is_systemds_and_that_of_later_the_kernels(report: dict[str, Any]) -> None:
    (service,) = [item for item in report["services"] if item["name"] == "tells"]
    assert "80" in [item["actual"] for item in service["limits"] if item["file"].endswith("/cpu.weight")]
    assert any(text.startswith("StartupCPUWeight: systemd has '50'") for _, text in said(report, "tells", "pass"))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (
            "untrusted",
            "its certificate is not trusted (unable to get local issuer certificate) at https://127.0.0.1:8444/",
        ),
        ("silent", "it has not told systemd that it is ready (activating)"),
        ("ends-badly", "75"),
        ("no-file", "a file of EnvironmentFile= cannot be read"),
        ("no-folder", "200: systemd could not set up CHDIR: WorkingDirectory="),
    ],
)
def test_a_service_that_lacks_what_its_keys_need_fails_with_the_reason(
    report: dict[str, Any], name: str, text: str
) -> None:
    failed = said(report, name, "fail")
    assert any(text in message for _, message in failed), failed
