"""What every test of this repository shares."""

from hypothesis import HealthCheck, settings

# CI machines are busy: time is bounded by pytest-timeout and by tests of their own, not by hypothesis.
settings.register_profile(
    "fast", max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True
)
settings.load_profile("fast")
