"""The picture and the table of docs/shares.md are what the model says."""

from fractions import Fraction
from pathlib import Path

from ci import draw_shares

from cgroup_preflight.config.load import parse
from cgroup_preflight.plan.build import build_plan
from cgroup_preflight.plan.share_table import render_text
from cgroup_preflight.plan.share_tree import Neighbour, share_tree

PAGE = Path(__file__).parents[3] / "docs" / "shares.md"


def test_the_picture_is_up_to_date() -> None:
    assert draw_shares.PICTURE.read_text("utf-8") == draw_shares.draw()


def test_the_table_of_the_page_is_what_the_command_prints() -> None:
    plan = build_plan(parse(draw_shares.CONFIG.encode(), shown="c", folder="/"))
    tree = share_tree(plan, frozenset(range(draw_shares.CPUS)), map(_host, ("system.slice", "user.slice")))
    assert f"```text\n{render_text(tree, plan.project)}```\n" in PAGE.read_text("utf-8")
    assert tree.demands == dict[str, Fraction]()


def _host(unit: str) -> Neighbour:
    return Neighbour(unit=unit)
