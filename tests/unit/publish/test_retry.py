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


@pytest.mark.parametrize(("answer", "seconds"), [
    (Answer(status=403, excerpt="You have exceeded a Secondary Rate Limit"), 60), (Answer(status=429, excerpt="rate limit"), 0.5),
    (Answer(status=403, headers={"x-ratelimit-remaining": "0"}), 60),
    (Answer(status=403, headers={"x-ratelimit-remaining": "0", "x-ratelimit-reset": "0"}), 1),
    (Answer(status=429, headers={"x-ratelimit-remaining": "1", "x-ratelimit-reset": "0"}), 0.5),
    (Answer(status=429, headers={"retry-after": "0.5"}), 0.5), (Answer(status=408), 0.5), (Answer(status=423), 0.5),
    (Answer(status=425), 0.5), (Answer(status=599), 0.5),
])  # fmt: skip
def test_how_long_a_limit_lasts(answer, seconds):
    assert _step("GET", answer, left=seconds + 0.01).seconds == seconds
    assert _step("GET", answer, left=seconds).seconds == 0


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "PATCH", "DELETE"])
@pytest.mark.parametrize("trouble", [Trouble.CUT, Trouble.SLOW, Trouble.UNREACHABLE])
def test_what_may_be_repeated_is(method, trouble):
    step = _step(method, Answer(trouble=trouble))
    assert (step.trouble, step.ambiguous) == (trouble, False)
    assert step.seconds > 0


@pytest.mark.parametrize("status", [400, 401, 404, 407, 410, 422, 424, 426])
def test_other_refusals_are_final(status):
    assert _step("GET", Answer(status=status)).seconds == 0


def test_each_wait_is_twice_the_one_before():
    assert [_step("GET", Answer(status=500), attempt=number).seconds for number in (1, 2, 3)] == [0.5, 1.0, 2.0]


@pytest.mark.parametrize(("text", "seconds"), [("0", 0), (" 7 ", 7), ("99999999999", 99999999999), (DATE, 5)])
def test_retry_after(text, seconds):
    assert retry_after(text, NOW) == seconds


@pytest.mark.parametrize("text", ["", "x", "-1", "1e9", "Tue, 99 Foo 2023", "99999999999999999999", "1.5"])
def test_odd_retry_after(text):
    assert retry_after(text, NOW) is None


def test_past_date_is_now():
    assert retry_after("Tue, 14 Nov 2023 22:00:00 GMT", NOW) == 0.0
