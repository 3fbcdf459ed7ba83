"""The venue's clock: one wrong answer moves nothing, and a slow one is not believed for long."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from foundation.errors import BrokerError
from tests.execution.scripted_venue import CLOCK, NOW, shown, venue_at
from tests.support.messages import refused
from trainingdata.feed.endpoint import BrokerSettings


@pytest.mark.parametrize("ahead", ["2024-03-05T19:30:20Z", "2024-03-09T17:30:20Z"])
def test_single_wrong_clock_response_is_queried_again(ahead: str) -> None:
    moved = np.datetime64(ahead[:-1], "ns")
    for words, seen in (
        ([CLOCK, shown(ahead), CLOCK], [NOW] * 3),
        ([CLOCK, shown(ahead)], [NOW, moved]),  # two agreeing responses are trusted
        ([shown(ahead), CLOCK], [moved, NOW]),  # also where the first was wrong
    ):
        desk, *_ = venue_at(clock=words)
        assert [desk.now() for _ in seen] == seen


@pytest.mark.first_example
@pytest.mark.parametrize("speed", [0.0, 0.5, 0.95])
@pytest.mark.parametrize("every", [(15.0,), (15.0, 0.2), (5.0,)])
def test_stopped_or_slow_clock_is_trusted_five_minutes(
    speed: float, every: tuple[float, ...]
) -> None:
    desk, venue, waited = venue_at()
    elapsed, rejected = 0.0, 0
    long_enough = 450 / (1 - speed)
    for pause in itertools.islice(itertools.cycle(every), round(long_enough / np.mean(every))):
        moved = NOW + np.timedelta64(round(speed * elapsed * 1e6), "us")
        venue.words["clock"] = [shown(f"{moved}Z")]
        behind = (1 - speed) * elapsed
        if behind > 300.1:
            with pytest.raises(BrokerError, match="the clock"):
                desk.now()
            rejected += 1
        elif behind < 299.9:
            assert desk.now() == moved
        elapsed += pause
        waited[:] = [elapsed]
    assert rejected > 5


def test_venue_clock_is_trusted_again_after_local_jump() -> None:
    desk, venue, waited = venue_at()
    desk.now()
    waited.append(400.0)
    refusals = []
    for passed in np.arange(40) * 15:
        venue.words["clock"] = [shown(f"{NOW + np.timedelta64(passed, 's')}Z")]
        try:
            desk.now()
        except BrokerError:
            refusals.append(passed)
        waited.append(15.0)
    assert refusals == [0, 15, 30, 45]


def test_practice_server_clock_is_trusted_while_standing_still() -> None:
    desk, _, waited = venue_at(BrokerSettings(url_override="http://127.0.0.1:9"))
    desk.now()
    waited.append(86_400.0)
    assert desk.now() == NOW


def test_two_invalid_clock_responses_raise_an_error() -> None:
    days = (5, 9, 7)
    desk, *_ = venue_at(clock=[shown(f"2024-03-0{day}T17:30:20Z") for day in days])
    desk.now()
    with refused(BrokerError, "2024-03-09T17:30:20.000000000", "2024-03-07T17:30:20.000000000"):
        desk.now()
