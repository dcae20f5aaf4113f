"""What a GitLab job can show without a token, beside JUnit and Code Quality: a link and variables.

Sources: GitLab docs, ci/yaml/artifacts_reports, `artifacts:reports:annotations` (a JSON object of sections with
external links) and `artifacts:reports:dotenv` (5 KB, ASCII names, no blank lines, no comments, no quotes kept).
"""

import json
from urllib.parse import urlsplit

from cgroup_preflight.core.report import Status
from cgroup_preflight.render.comment import title
from cgroup_preflight.render.merge import Merged


def annotations(merged: Merged, links: dict[str, str]) -> str:
    """The annotations report: the verdict as a label on each of `links` (label: absolute http address)."""
    label = f"cgroup-preflight: {title(merged)}"
    entries = [
        {"external_link": {"label": f"{label} ({name})"[:255], "url": url}}
        for name, url in links.items() if urlsplit(url).scheme in ("http", "https")
    ]  # fmt: skip
    return json.dumps({"cgroup-preflight": entries}, indent=2, ensure_ascii=True) + "\n"


def dotenv(merged: Merged) -> str:
    """Variables for later jobs: words and numbers of ours only, so that nothing foreign gets into an environment."""
    counts = {status: sum(item.status is status for item in merged.report.findings) for status in Status}
    values = {
        "VERDICT": merged.verdict.value, "RUNNERS": merged.count, "FAILED": counts[Status.FAIL],
        "UNVERIFIED": counts[Status.UNVERIFIED], "WARNINGS": counts[Status.WARN],
    }  # fmt: skip
    return "".join(f"CGROUP_PREFLIGHT_{name}={value}\n" for name, value in values.items())
