"""What an image says of itself: days, versions, and the name that follows from them."""

from datetime import date
from email.utils import parsedate_to_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cgroup_preflight.guest.contents import FILE, contents_in, parse

TEXT = """\
archive deb.debian.org_debian_dists_forky-updates_InRelease Fri, 30 Oct 2026 02:00:00 UTC
archive deb.debian.org_debian_dists_forky_InRelease Fri, 30 Oct 2026 08:08:01 UTC
archive security.debian.org_debian-security_dists_forky-security_InRelease Thu, 29 Oct 2026 21:00:00 UTC
libc6 2.43-7
linux-image-7.2.12+deb14-cloud-amd64 7.2.12-1
linux-image-cloud-amd64 7.2.12-1
systemd 262-1
"""


def test_the_day_is_that_of_the_newest_list():
    found = parse(TEXT)
    assert (found.day, found.kernel, found.packages["systemd"], len(found.packages)) == (
        "2026-10-30",
        "7.2.12-1",
        "262-1",
        4,
    )
    assert found.age(date(2026, 11, 29)) == 30


@pytest.mark.parametrize(
    ("old", "new"), [("262-1", "262-2"), ("systemd 262-1\n", ""), ("libc6", "libc7"), ("30 Oct", "31 Oct")]
)
def test_another_version_or_day_makes_another_name(old, new):
    assert parse(TEXT).stamp != parse(TEXT.replace(old, new)).stamp
    assert parse(TEXT).stamp.startswith("20261030-")


def test_the_order_of_packages_makes_no_other_name():
    assert parse("".join(sorted(TEXT.splitlines(keepends=True), reverse=True))).stamp == parse(TEXT).stamp


@pytest.mark.parametrize("text", ["", "archive x_InRelease never\n", "archive x_InRelease\n", "archive x \n"])
def test_without_a_day_there_is_no_age(text):
    found = parse(text)
    assert (found.day, found.age(date(2026, 11, 29)), found.kernel) == ("", None, "")
    assert found.stamp.startswith("00000000-")


@given(st.text())
def test_any_text_is_read(text):
    found = parse(text)
    assert len(found.stamp) == 17


@given(st.dates(date(1970, 1, 1)), st.sampled_from(["UTC", "+0000"]), st.sampled_from(["%a, %d", "%a, %e", "%d"]))
def test_a_day_is_read_as_the_library_for_mail_reads_it(day, zone, beginning):
    text = f"{day.strftime(f'{beginning} %b %Y')} 08:09:10 {zone}"
    assert parse(f"archive x_InRelease {text}\n").day == parsedate_to_datetime(text).date().isoformat()


def test_an_image_of_before_has_no_contents(tmp_path):
    assert contents_in(tmp_path) is None
    (tmp_path / FILE).write_text(TEXT)
    found = contents_in(tmp_path)
    assert found is not None
    assert found.day == "2026-10-30"
