"""What is told of installed units before the boot, from the archive of an image."""

import io
import tarfile
from pathlib import Path

import pytest

from cgroup_preflight.core.errors import ConfigError
from cgroup_preflight.guest.image import RootImage
from cgroup_preflight.guest.units import with_units
from tests.unit.core.making import config_of

VENDOR, ADMIN = "usr/lib/systemd/system", "etc/systemd/system"
UNIT = "[Service]\nExecStart=/usr/bin/x\n"
OWNERS = """\
libx:amd64.list:/lib/systemd/system/libx.service
redis-server.list:/lib/systemd/system/redis-server.service
redis-server.list:/lib/systemd/system/redis-server@.service
nginx-common.list:/lib/systemd/system/nginx.service
"""
FILES = {
    f"{VENDOR}/redis-server.service": UNIT,
    f"{VENDOR}/redis-server@.service": UNIT,
    f"{ADMIN}/redis.service": "->/lib/systemd/system/redis-server.service",
    f"{ADMIN}/off.service": "->/dev/null",
    f"{VENDOR}/redis-server.service.d/a.conf": "[Service]\nTasksMax=9\n",
    "../../escaped.service": UNIT,
    "etc/passwd": "x",
    f"{VENDOR}/../up.service": UNIT,
}


@pytest.fixture
def image(tmp_path: Path) -> RootImage:
    """An image with these units; some members are none that a build makes."""
    path = tmp_path / "units.tar"
    with tarfile.open(path, "w") as archive:
        for name, text in ({"owners": OWNERS} | FILES).items():
            member = tarfile.TarInfo(name)
            if text.startswith("->"):
                member.type, member.linkname = tarfile.SYMTYPE, text.removeprefix("->")
            member.size = 0 if member.issym() else len(text)
            archive.addfile(member, io.BytesIO(text.encode()))
    return RootImage(name="debian-12-x", root=tmp_path / "root.ext4", kernel=None, units=path)


def config(*units: str, packages: str = '["redis-server", "nginx"]'):
    services = "".join(f'[services.s{number}]\nunit = "{unit}"\n' for number, unit in enumerate(units))
    return config_of(f"{services}[target]\npackages = {packages}\n")


def test_the_text_of_units_is_known_before_the_boot(image: RootImage) -> None:
    found = with_units(config("redis.service", "redis-server@blue.service"), image, (), "debian-12")
    sources = [item.source for item in found.services]
    assert [source.name for source in sources if source] == ["redis-server.service", "redis-server@blue.service"]
    assert sources[0] is not None
    assert sources[0].last("TasksMax") == "9"
    assert not (image.root.parent.parent / "escaped.service").exists()


@pytest.mark.parametrize(
    ("unit", "words"),
    [
        ("redis-serve.service", (
            "did you mean redis-server.service? ",
            "the packages ship redis-server.service (redis-server), redis-server@.service (redis-server); ",
            "name the package of debian-12 that ships redis-serve.service in packages of [target]",
        )),
        ("off.service", ("name another unit",)),
    ],
)  # fmt: skip
def test_a_unit_that_the_packages_do_not_install(image: RootImage, unit: str, words: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError) as caught:
        with_units(config(unit, "redis.service"), image, (), "debian-12")
    (finding,) = caught.value.findings
    assert (finding.code, finding.subject) == ("CGP217", "s0")
    assert all(word in finding.remedies[0].title for word in words)


@pytest.mark.parametrize(
    ("packages", "words"),
    [('["nginx"]', "nginx ship no service themselves; "), ("[]", "name the package of debian-12")],
)
def test_without_a_service_in_the_packages(image: RootImage, packages: str, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        with_units(config("x.service", packages=packages), image, (), "debian-12")
    assert words in caught.value.findings[0].remedies[0].title


def test_an_image_without_the_archive_and_a_config_without_such_units_say_nothing(image: RootImage) -> None:
    for made, of in (
        (config("x.service"), RootImage(name="old", root=image.root, kernel=None)),
        (config_of('[services.a]\nbinary = "a"\n'), image),
    ):
        assert with_units(made, of, (), "debian-12") is made
