"""Every request of the GitHub tests, and of the faults, against GitHub's own description."""

from tests.unit.publish.test_events import *  # noqa: F403
from tests.unit.publish.test_faults import *  # noqa: F403
from tests.unit.publish.test_github import *  # noqa: F403
