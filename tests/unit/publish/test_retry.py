"""The retry policy, case by case; no time passes."""

import pytest

from cgroup_preflight.publish.http import Answer, Trouble, next_step, retry_after

NOW = 1_700_000_000.0
DATE = "Tue, 14 Nov 2023 22:13:25 GMT"  # five seconds after NOW


def _step(method, answer, attempt=1, left=60.0):
    return next_step(method, answer, attempt=attempt, left=left, now=NOW)


@pytest.mark.parametrize(
    ("method", "status", "headers", "seconds"),
    [
        ("GET", 500, {}, 0.5),
        ("PATCH", 502, {}, 0.5),
        ("DELETE", 503, {"retry-after": "3"}, 3),
        ("POST", 429, {"retry-after": "2"}, 2),
        ("POST", 429, {"retry-after": DATE}, 5),
        ("POST", 429, {}, 0.5),
        ("POST", 403, {"retry-after": "4"}, 4),
        ("POST", 409, {}, 0.5),
        ("PUT", 409, {}, 0.5),
        ("GET", 403, {"x-ratelimit-remaining": "0", "x-ratelimit-reset": str(int(NOW) + 7)}, 7),
        ("GET", 500, {"retry-after": "0"}, 0.1),
        ("GET", 429, {"retry-after": "soon"}, 0.5),
    ],
)
def test_sent_again(method, status, headers, seconds):
    assert _step(method, Answer(status=status, headers=headers)).seconds == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("method", "answer", "trouble", "ambiguous"),
    [
        ("POST", Answer(status=500), Trouble.SERVER, True),
        ("POST", Answer(trouble=Trouble.CUT), Trouble.CUT, True),
        ("POST", Answer(trouble=Trouble.SLOW), Trouble.SLOW, True),
        ("POST", Answer(status=200, trouble=Trouble.CONTENT), Trouble.CONTENT, True),
        ("GET", Answer(status=200, trouble=Trouble.CONTENT), Trouble.CONTENT, False),
        ("GET", Answer(status=401), Trouble.STATUS, False),
        ("GET", Answer(status=403), Trouble.STATUS, False),
        ("PATCH", Answer(status=422), Trouble.STATUS, False),
        ("GET", Answer(status=302), Trouble.MOVED, False),
        ("GET", Answer(trouble=Trouble.TLS), Trouble.TLS, False),
        ("POST", Answer(status=429, headers={"retry-after": "3600"}), Trouble.LIMIT, False),
        ("GET", Answer(status=403, excerpt="You have exceeded a secondary rate limit"), Trouble.LIMIT, False),
    ],
)
def test_given_up(method, answer, trouble, ambiguous):
    step = _step(method, answer)
    assert (step.trouble, step.ambiguous, step.seconds) == (trouble, ambiguous, 0.0)


def test_bounds():
    assert _step("GET", Answer(status=500), attempt=4).seconds == 0
    assert _step("GET", Answer(status=500), attempt=2, left=0.9).seconds == 0
    assert _step("POST", Answer(trouble=Trouble.UNREACHABLE)).seconds > 0
    assert _step("GET", Answer(status=204)).trouble is None


@pytest.mark.parametrize("text", ["", "x", "-1", "1e9", "Tue, 99 Foo 2023", "99999999999999999999", "1.5"])
def test_odd_retry_after(text):
    assert retry_after(text, NOW) is None


def test_past_date_is_now():
    assert retry_after("Tue, 14 Nov 2023 22:00:00 GMT", NOW) == 0.0
