"""A service of a package whose recommended packages the guest lacks: its failure is not the project's."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cgroup_preflight.config.model import Service
from cgroup_preflight.config.unit_source import UnitSource, UnitText
from cgroup_preflight.core import codes
from cgroup_preflight.core.records import replace
from cgroup_preflight.core.report import Status
from cgroup_preflight.host.fs import LiveFs
from cgroup_preflight.smoke.recommended import excused, lacking_of
from tests.unit.core.making import config_of

_STATUS = """\
Package: unbound
Status: install ok installed
Version: 1.17.1
Depends: adduser, libc6 (>= 2.36)
Recommends: dns-root-data (>= 1), perl:any | perl-base, default-mta | mail-transport-agent, gone
Description: a resolver
 Recommends: not a field

Package: perl-base
Status: install ok installed

Package: postfix
Status: install ok installed
Provides: mail-transport-agent (= 1)

Package: gone
Status: deinstall ok config-files
"""


def test_what_is_recommended_and_not_installed() -> None:
    assert lacking_of("unbound", _STATUS) == ("dns-root-data", "gone")
    assert lacking_of("perl-base", _STATUS) == ()
    assert lacking_of("absent", _STATUS) == ()
    assert lacking_of("gone", _STATUS.replace("config-files\n", "config-files\nRecommends: x\n")) == ()


@given(st.text(st.sampled_from("Package: Recommends|,()a1\n\t "), max_size=200))
def test_any_text_is_read(text: str) -> None:
    assert isinstance(lacking_of("a", text), tuple)


def _files(folder: Path) -> LiveFs:
    info = folder / "var/lib/dpkg/info"
    info.mkdir(parents=True)
    (info / "unbound.list").write_text("/.\n/lib\n/lib/systemd/system/unbound.service\n")
    (info / "redis-server.list").write_text("/lib/systemd/system/redis-server.service\n")
    (folder / "var/lib/dpkg/status").write_text(_STATUS)
    return LiveFs(str(folder))


def _service(unit: str, *, installed: bool = True) -> Service:
    (service,) = config_of("[services.dns]\nbinary = 'x'\n").services
    text = UnitText(path=f"/usr/lib/systemd/system/{unit}", text="[Service]\nExecStart=/x\n")
    return replace(service, source=UnitSource(name=unit, files=(text,), installed=installed))


@pytest.mark.parametrize(
    ("unit", "installed", "status", "code", "found"),
    [
        ("unbound.service", True, Status.FAIL, codes.SERVICE_RUN, Status.UNVERIFIED),
        ("unbound.service", True, Status.FAIL, codes.READINESS, Status.UNVERIFIED),
        ("unbound.service", True, Status.PASS, codes.SERVICE_RUN, Status.PASS),
        ("unbound.service", True, Status.FAIL, codes.LIMITS_IN_FORCE, Status.FAIL),
        ("unbound.service", False, Status.FAIL, codes.SERVICE_RUN, Status.FAIL),
        ("redis-server.service", True, Status.FAIL, codes.SERVICE_RUN, Status.FAIL),
        ("other.service", True, Status.FAIL, codes.SERVICE_RUN, Status.FAIL),
    ],
)
def test_only_the_failure_of_such_a_service_is_unverified(
    tmp_path: Path, unit: str, installed: bool, status: Status, code: codes.Code, found: Status
) -> None:
    finding = code.finding(status, "dns", "it exited with status 1")
    services = [_service(unit, installed=installed)]
    (seen,) = excused([finding], services, ("redis-server", "unbound", "absent"), _files(tmp_path))
    assert seen.status is found
    if found is Status.UNVERIFIED:
        words = "the guest lacks what unbound recommends (dns-root-data, gone): it exited with status 1"
        assert seen.message == words
        assert seen.remedies[0].title == "add to packages in [target]: dns-root-data, gone"


@pytest.mark.parametrize(("refused", "status"), [(3, Status.FAIL), (0, Status.UNVERIFIED)])
def test_what_a_limit_stopped_is_a_fail_whatever_the_guest_lacks(tmp_path: Path, refused: int, status: Status) -> None:
    evidence = {"tasks_refused": refused}
    finding = codes.SERVICE_RUN.finding(Status.FAIL, "dns", "it exited with status 1", evidence=evidence)
    (seen,) = excused([finding], [_service("unbound.service")], ("unbound",), _files(tmp_path))
    assert seen.status is status
