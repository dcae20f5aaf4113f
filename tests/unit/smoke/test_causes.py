"""A service that is not ready: the finding names the limit or the port that is the reason, and the log if it has one."""

from dataclasses import replace

import pytest

from cgroup_preflight.core.report import Status
from cgroup_preflight.engines.http_answer import UNTRUSTED
from cgroup_preflight.engines.ready import Readiness
from tests.unit.smoke.fabricate import TEXT, counters, evidence, known
from tests.unit.smoke.test_findings import ENDED, NOT_READY, judged, the


@pytest.mark.parametrize(
    "line",
    [
        "listening on :9090",
        "INFO Listening at http://0.0.0.0:9090 (12)",
        "serving HTTP on 9090",
        "bound to 127.0.0.1:9090",
    ],
)
def test_a_port_in_the_log_that_is_not_the_one_asked_for_is_named(line):
    found = the(judged(evidence(ready=NOT_READY, log=("starting", line))), "CGP505")
    assert found.message.endswith(f"; its log says {line!r}, and the readiness test asks port 8080")


@pytest.mark.parametrize("line", ["listening on :8080", "GET / 9090", "listening", "relisten 1:9090", "took 9090 ms"])
def test_the_right_port_or_another_number_is_no_hint(line):
    assert "its log says" not in the(judged(evidence(ready=NOT_READY, log=(line,))), "CGP505").message


def test_only_a_test_with_an_address_has_a_port():
    text = TEXT.replace('"http://127.0.0.1:8080/healthz"', '"log:up"')
    assert "its log" not in the(judged(evidence(text, ready=NOT_READY, log=("listening on :1234",))), "CGP505").message


@pytest.mark.parametrize(("log", "words"), [(("a line",), "read its log below"), ((), "wrote no log")])
def test_a_log_is_spoken_of_only_where_there_is_one(log, words):
    for seen in (evidence(ready=NOT_READY, log=log), evidence(silent="HTTP status 503", log=log)):
        assert words in the(judged(seen), "CGP505").remedies[0].title


@pytest.mark.parametrize(
    ("ca", "way"), [("", "certificate of the authority in ready_ca"), ("ca.pem", "correct ready_ca, or name the host")]
)
@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]"])
def test_a_certificate_that_is_not_trusted_names_the_ways_out_and_no_time(ca, way, host):
    more = f'ready_ca = "{ca}"\n' if ca else ""
    text = TEXT.replace('ready = "http://127.0.0.1:8080/healthz"', f'{more}ready = "https://{host}:8443/healthz"')
    why = f"{UNTRUSTED} (self-signed certificate) at https://{host}:8443/healthz"
    found = the(judged(evidence(text, ready=Readiness(ok=False, seconds=30.0, why=why))), "CGP505")
    assert found.message == f"not ready after 30 s: {why}"
    assert way in found.remedies[0].title
    assert f'ready = "tcp://{host}:8443"' in found.remedies[0].title
    assert "start_timeout" not in found.remedies[0].title


def test_a_quota_that_is_too_small_says_so_first():
    slow = counters(cpu={"nr_periods": 100, "nr_throttled": 60})
    found = the(judged(evidence(ready=NOT_READY, counters=slow)), "CGP505")
    assert found.remedies[0].title.startswith("raise CPUQuota, or ")
    assert "60% of periods" in the(judged(evidence(silent="no answer in time", counters=slow)), "CGP505").message
    assert not the(judged(evidence(ready=NOT_READY)), "CGP505").remedies[0].title.startswith("raise CPUQuota")


def test_a_kill_before_it_was_ready_says_so_with_the_peak():
    killed = counters(events={"oom_kill": 1}, peak=64 << 20)
    found = the(judged(evidence(ready=ENDED, counters=killed)), "CGP504")
    assert "killed a process for memory before it was ready: peak 64M (limit 64M" in found.message
    assert "before" not in the(judged(evidence(counters=killed)), "CGP504").message


@pytest.mark.parametrize(
    ("own", "above", "status"),
    [(0, 0, Status.UNVERIFIED), (1, 1, Status.FAIL), (0, 1, Status.FAIL)],
)
def test_a_kill_without_a_limit_that_was_reached_is_none_of_the_services_faults(own, above, status):
    """The machine had no memory left; a limit of a slice counts at the slice only."""
    killed = counters(events={"oom_kill": 1, "oom": own}, peak=40 << 20)
    seen = evidence(counters=killed, slices=(counters(events={"oom_kill": 1, "oom": above}),))
    found = the(judged(seen), "CGP504")
    assert found.status is status
    assert ("no limit of the run was reached" in found.message) is (status is Status.UNVERIFIED)
    assert ("raise MemoryMax" in found.remedies[0].title) is (status is Status.FAIL)


@pytest.mark.parametrize(
    ("own", "above", "inner"),
    [({"oom": 0}, {"oom": 0}, True), ({"oom": 1}, {"oom": 0}, False), ({"oom": 0}, {"oom": 1}, False), (None, None, False)],
)  # fmt: skip
def test_a_kill_at_a_limit_that_the_service_set_is_not_that_of_the_config(own, above, inner):
    """A container runtime limits its containers (Delegate=); kernels before 5.2 do not tell."""

    def level(local):
        killed = counters(events={"oom_kill": 1, "oom": 1}, peak=20 << 20)
        return killed if local is None else replace(killed, memory_local=known(local))

    found = the(judged(evidence(counters=level(own), slices=(level(above),))), "CGP504")
    assert found.status is Status.FAIL
    assert ("a limit that the service itself set" in found.message) is inner
    assert ("raise MemoryMax" in found.remedies[0].title) is not inner


def test_an_answer_of_which_nobody_knows_whose_it_is_is_unverified():
    seen = evidence(ready=Readiness(ok=True, seconds=0.1, doubt="/proc/7/fd: denied (EACCES)"))
    found = the(judged(seen), "CGP505")
    assert found.status is Status.UNVERIFIED
    assert "EACCES" in found.message
    assert not [item for item in judged(seen) if item.code == "CGP503"]
