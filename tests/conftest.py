"""What every test of this repository shares."""

import os

from hypothesis import HealthCheck, settings

# CI machines are busy: time is bounded by pytest-timeout and by tests of their own, not by hypothesis.
settings.register_profile(
    "fast", max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True
)
#: For a search by hand: HYPOTHESIS_PROFILE=deep pytest tests/unit
settings.register_profile("deep", settings.get_profile("fast"), max_examples=3000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "fast"))
