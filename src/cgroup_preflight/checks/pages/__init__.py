"""The pages of the codes that no check owns; only `explain` and the reference load them."""

from cgroup_preflight.checks.page import Page
from cgroup_preflight.checks.pages.artifacts import ARTIFACT_PAGES
from cgroup_preflight.checks.pages.config import CONFIG_PAGES
from cgroup_preflight.checks.pages.contention import CONTENTION_PAGES
from cgroup_preflight.checks.pages.host import HOST_PAGES
from cgroup_preflight.checks.pages.packages import PACKAGE_PAGES
from cgroup_preflight.checks.pages.publish import PUBLISH_PAGES
from cgroup_preflight.checks.pages.rollout import ROLLOUT_PAGES
from cgroup_preflight.checks.pages.smoke import SMOKE_PAGES
from cgroup_preflight.core.codes import Code

PAGES: dict[Code, Page] = {
    **HOST_PAGES,
    **CONFIG_PAGES,
    **ARTIFACT_PAGES,
    **SMOKE_PAGES,
    **PACKAGE_PAGES,
    **PUBLISH_PAGES,
    **CONTENTION_PAGES,
    **ROLLOUT_PAGES,
}
