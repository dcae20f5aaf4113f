"""What `inspect` prints about a program."""

import pytest

from cgroup_preflight.golang.modinfo import BuildInfo, Module
from cgroup_preflight.golang.runtime import RuntimePrediction
from cgroup_preflight.report import build_info

INFO = BuildInfo(
    go_version="go1.25.5", path="example.org/app", main=Module(path="example.org/app", version="v1.2.3"),
    deps=(Module(path="example.org/dep", version="v0.1.0"),), settings=(("GOARCH", "amd64"), ("-trimpath", "true")),
)  # fmt: skip


def test_both_are_needed_to_say_more_than_why_not():
    for info, choice in ((None, None), (INFO, None)):
        text = build_info.render("app", info, choice, "is not a Go program", (), verbose=False, colour=False)
        assert text == "app: it is not a Go program\n"


@pytest.mark.parametrize("verbose", [False, True])
def test_what_the_runtime_does_and_what_it_was_built_from(verbose):
    choice = RuntimePrediction(
        gomaxprocs=2, gomemlimit_bytes=None, follows_cpu_max=True, why=("the quota is 1.5 CPUs",)
    )
    text = build_info.render("app", INFO, choice, "", (), verbose=verbose, colour=False)
    assert text.startswith("app: go1.25.5, example.org/app v1.2.3\n")
    assert "GOMAXPROCS 2, memory limit none, follows changes of cpu.max" in text
    assert "because   the quota is 1.5 CPUs" in text
    assert ("dep       example.org/dep v0.1.0" in text) is verbose
    assert ("1 modules" in text) is not verbose
