"""What every test of this repository shares."""

import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# CI machines are busy: time is bounded by pytest-timeout and by tests of their own, not by hypothesis.
settings.register_profile(
    "fast", max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True
)
#: For a search by hand: HYPOTHESIS_PROFILE=deep pytest tests/unit
settings.register_profile("deep", settings.get_profile("fast"), max_examples=3000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "fast"))


def pytest_configure() -> None:
    """A shell ignores SIGINT for what it starts in the background, and programs inherit that: Ctrl-C could not be tried."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def short_folder() -> Iterator[Path]:
    """A folder for a guest's files: where $TMPDIR has more than 70 characters, and pytest's folders do after some thousand
    runs, guests use /tmp instead (`guest.process.make_folder`), and nothing of them would be found here."""
    folder = Path(tempfile.mkdtemp(prefix="lab-", dir="/tmp"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)
