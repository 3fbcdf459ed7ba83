"""No promise about money loses its test, and nothing grows where nobody looks."""

from __future__ import annotations

import pytest

from tests.support.money import COLLECTED, lacking, long_tests_allowed, name_of, promises


def test_every_money_promise_test_is_in_the_run(request: pytest.FixtureRequest) -> None:
    collected = {name_of(item) for item in request.config.stash[COLLECTED]}
    run = {name_of(item) for item in request.session.items}
    assert lacking(collected, run) == {}


def test_missing_or_deselected_money_test_is_detected() -> None:
    every = {test for tests in promises().values() for test in tests}
    promise, (first, *_) = next(iter(promises().items()))
    assert lacking(every, every) == {}
    assert lacking(every, every - {first}) == {promise: [first]}
    assert lacking(set(), set()) == {}, "a run of other files misses nothing"


@pytest.mark.slow
def test_number_of_long_tests_stays_within_limit(request: pytest.FixtureRequest) -> None:
    items = request.config.stash[COLLECTED]
    long = [item.nodeid for item in items if item.get_closest_marker("long")]
    assert len(long) <= long_tests_allowed(), long
