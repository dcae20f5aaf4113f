"""What a full disk of another machine excuses, and what it does not."""

from types import SimpleNamespace

import pytest

from cgroup_preflight.core import codes
from cgroup_preflight.core.codes import Code
from cgroup_preflight.core.errors import HostError
from cgroup_preflight.core.reading import Known, Missing, Why
from cgroup_preflight.core.report import Finding, Remedy, Status
from cgroup_preflight.host.command import Completed
from cgroup_preflight.smoke.full_disk import excused, free_bytes, named

FOLDER = "/run/cgpf0123456789ab-x"
HEAD = "Filesystem 1024-blocks Used Available Capacity Mounted on\n"
REASON = "the disk of far is full: 12 KiB free in /run; free some and run again"
LIMIT = Finding(
    code=codes.LIMITS_IN_FORCE.code, name="limits-in-force", status=Status.FAIL, subject="web", message="not in force"
)


class Programs:
    """A host with so many KiB `free`, and output files of these sizes in KiB."""

    def __init__(self, free: str = "12", sizes: dict[str, str] | None = None, lost: bool = False) -> None:
        self.free, self.sizes, self.lost = free, sizes or {}, lost
        self.asked: list[str] = []

    def run(self, argv, *, timeout):
        assert timeout <= 30
        self.asked.append(argv[0])
        if self.lost:
            raise HostError("gone", remedy=Remedy(title="look"))
        if argv[0] == "df":
            assert argv == ("df", "-Pk", "--", FOLDER)
            text = f"{HEAD}tmpfs 200000 199988 {self.free} 100% /run\n"
        else:
            assert argv[:3] == ("du", "-k", "--")
            text = "".join(f"{self.sizes[path]}\t{path}\n" for path in argv[3:] if path in self.sizes)
        return Known(value=Completed(argv=argv, returncode=1, stdout=text, stderr=""), source="far")


def door(**words):
    return SimpleNamespace(programs=Programs(**words), host="far")


def failed(code: Code, subject: str = "web", **evidence: int) -> Finding:
    return code.finding(Status.FAIL, subject, "no ready line", Remedy(title="read its log"), evidence=evidence)


@pytest.mark.parametrize("code", [codes.READINESS, codes.SERVICE_RUN, codes.STOP])
def test_what_a_full_disk_can_explain_is_unverified_and_says_so(code):
    far = door()
    (found,) = excused(far, FOLDER, [failed(code)])
    assert (found.status, found.code) == (Status.UNVERIFIED, code.code)
    assert found.message == f"{REASON} (no ready line)"
    assert [item.title for item in found.remedies] == ["free some space in /run of far, and run again", "read its log"]
    assert far.programs.asked.count("df") == 1


@pytest.mark.parametrize("code", [
    codes.LIMITS_IN_FORCE, codes.PROCESS_PLACE, codes.OOM_KILL, codes.LIMIT_ENFORCED, codes.CPU_SHARES, codes.CLEANUP,
    codes.SERVICE_START, codes.START_SETTINGS,
])  # fmt: skip
def test_what_the_kernel_or_the_manager_proved_stays_a_fail(code):
    """Also next to what is excused."""
    proven = failed(code)
    found = excused(door(), FOLDER, [proven, failed(codes.READINESS)])
    assert found[0] is proven
    assert found[1].status is Status.UNVERIFIED


@pytest.mark.parametrize("evidence", [{"tasks_refused": 3}, {"processes left": 1}])
def test_an_end_that_a_limit_or_a_fork_explains_stays_a_fail(evidence):
    own = failed(codes.SERVICE_RUN, **evidence)
    assert excused(door(), FOLDER, [own]) == (own,)


def test_a_service_whose_own_output_fills_the_disk_is_not_excused_and_the_others_are():
    sizes = {f"{FOLDER}/web": "61000", f"{FOLDER}/other": "13000"}
    found = excused(door(sizes=sizes), FOLDER, [failed(codes.READINESS), failed(codes.READINESS, "other")])
    assert [item.status for item in found] == [Status.FAIL, Status.UNVERIFIED]


@pytest.mark.parametrize("free", ["1024", "80000"])
def test_with_space_nothing_is_excused(free):
    far, own = door(free=free), failed(codes.READINESS)
    assert excused(far, FOLDER, [own]) == (own,)
    assert far.programs.asked == ["df"]


def test_a_run_without_such_a_fail_asks_nothing():
    far = door()
    good = codes.READINESS.finding(Status.UNVERIFIED, "web", "by whom?", Remedy(title="look"))
    assert excused(far, FOLDER, [good, LIMIT]) == (good, LIMIT)
    assert far.programs.asked == []


@pytest.mark.parametrize("free", ["", "x", "-1", "²", "1" * 5000])
def test_an_odd_answer_is_no_full_disk_and_no_traceback(free):
    own = failed(codes.READINESS)
    assert free_bytes(door(free=free), FOLDER) is None
    assert excused(door(free=free), FOLDER, [own]) == (own,)
    # Of the output, too: what is unknown is not called the service's fault.
    (found,) = excused(door(sizes={f"{FOLDER}/web": free}), FOLDER, [own])
    assert found.status is Status.UNVERIFIED


def test_a_host_that_is_lost_or_has_no_df_is_asked_once():
    far, own = door(lost=True), failed(codes.READINESS)
    assert excused(far, FOLDER, [own]) == (own,)
    assert far.programs.asked == ["df"]
    without = SimpleNamespace(
        programs=SimpleNamespace(run=lambda *_args, **_more: Missing(source="df", why=Why.ABSENT)), host="far"
    )
    assert excused(without, FOLDER, [own]) == (own,)


def test_an_error_of_the_run_begins_with_the_full_disk():
    error = HostError("cannot write: Failure", where="/run/x", remedy=Remedy(title="look there"))
    found = named(door(), FOLDER, error)
    assert found is not None
    assert (found.message, found.where) == (f"{REASON} (cannot write: Failure)", "/run/x")
    assert found.remedy.title == "free some space in /run of far, and run again"
    assert named(door(free="80000"), FOLDER, error) is None
    assert named(door(lost=True), FOLDER, error) is None
