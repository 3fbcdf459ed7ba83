"""What the venue marks a position at is held to the feed's own trades, before and after a restart.

Every answer says the same wrong thing, so that asking again settles nothing: a second source does.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.e2e.changed_answers import changed_answers
from tests.e2e.practice import OPENING, Practice, Start
from tests.support.desks import ACCOUNT, PLAIN, SECOND, THIRD, Desk, alerts, attacked, held
from tests.support.overnight import LAST_CYCLE, buy_too_much, gross, show
from trainingdata.bars import HIGH, LOW, OPEN, Bars

KELLY = ("forecaster=ewma", "forecaster.calibrated=false", "prior.stock_sharpe=1.0")
POSITIONS = "/v2/positions"


@dataclass
class Marked:
    """A venue that marks one position at a multiple of its price, while it is armed.

    /account says the same.
    """

    symbol: str
    factor: float
    armed: bool = False
    _more: float = field(default=0.0, init=False)

    def __call__(self, method: str, path: str, told: Any) -> Any:
        if self.armed and path == POSITIONS:
            self._more = 0.0
            return [self._marked(entry) for entry in told]
        if self.armed and path == ACCOUNT:
            sums = ("equity", "portfolio_value", "long_market_value")
            return {**told, **{name: repr(float(told[name]) + self._more) for name in sums}}
        return told

    def _marked(self, entry: Any) -> Any:
        if entry["symbol"] != self.symbol:
            return entry
        self._more = (self.factor - 1.0) * float(entry["market_value"])
        names = ("market_value", "current_price")
        return {**entry, **{name: repr(self.factor * float(entry[name])) for name in names}}


def equities(desk: Desk) -> list[float]:
    return [mark.equity for mark in desk.live.account.marks.marks_since(np.datetime64(0, "ns"))]


@pytest.mark.parametrize(("factor", "restarted"), [(10.0, True), (0.1, False)])
def test_venue_price_contradicted_by_feed_triggers_no_trade(
    here: Practice, tmp_path: Path, factor: float, restarted: bool
) -> None:
    told = Marked("SYA", factor)
    with attacked(here, tmp_path, told) as desk:
        before, posts = held(desk), len(here.posts)
        told.armed = True
        for following in (THIRD, "2024-02-20T18:30:00Z"):
            if restarted:
                desk = desk.again()
            desk.job.step()
            assert desk.cycles[-1].decision is None
            assert "the venue marks SYA at" in desk.cycles[-1].idle_reason
            assert 50_000 < desk.cycles[-1].account.equity < 150_000
            here.advance(following)
        assert (held(desk), len(here.posts)) == (before, posts)
        assert len(equities(desk)) == 1, "no mark of what was not believed"
        assert "the venue marks SYA at" in alerts(desk)
        told.armed = False
        desk.job.step()
        assert desk.cycles[-1].decision is not None, "a later answer settles it"
        assert desk.live.halts.history() == ()
        assert max(equities(desk)) < 1.05 * min(equities(desk))


def jumped(times: float) -> Callable[[Bars], Bars]:
    """A market in which SYA comes to be worth so many times as much in the bar before `SECOND`."""

    def change(bars: Bars) -> Bars:
        s = bars.symbols.index("SYA")
        row = int(np.searchsorted(bars.times, np.datetime64(SECOND.removesuffix("Z"), "ns")))
        values = bars.values.copy()
        opened = values[s, row, OPEN]
        values[s, row:, :4] *= times
        values[s, row, OPEN] = opened
        values[s, row, HIGH] = max(values[s, row, HIGH], opened)
        values[s, row, LOW] = min(values[s, row, LOW], opened)
        return replace(bars, values=values)

    return change


@pytest.mark.first_example
@pytest.mark.parametrize(("times", "restarted"), [(1.3, False), (0.7, True)])
def test_price_jump_confirmed_by_feed_is_traded(
    practice: Start, tmp_path: Path, times: float, restarted: bool
) -> None:
    here = practice("symbols=[SYA,SYB]", bars=jumped(times))
    here.advance(OPENING)
    desk = Desk.at(here, tmp_path, *KELLY)
    desk.job.step()
    before = held(desk)
    here.advance(SECOND)
    if restarted:
        desk = desk.again()
    desk.job.step()
    assert desk.cycles[-1].decision is not None
    assert held(desk) != before
    assert abs(equities(desk)[-1] - here.venue.broker.equity_row().equity) < 1_000


@pytest.mark.wire
def test_wrong_venue_prices_do_not_block_overnight_reduction(
    practice: Start, tmp_path: Path
) -> None:
    """With a price ten times too high, the book seems small enough to be held overnight."""
    told = Marked("SYA", 10.0)
    here = practice("symbols=[SYA,SYB]")
    here.advance(LAST_CYCLE)
    with changed_answers(here, told) as seen:
        desk = Desk.at(seen, tmp_path, *PLAIN)
        desk.job.step()
        buy_too_much(desk.here)
        told.armed = True
        wanted = held(desk)
        show(desk, 10)
        desk.job.step()
        assert held(desk) == wanted, "another answer may settle it"
        show(desk, 2)
        desk.job.step()
        assert 1.9 < gross(desk.here) <= 2.0
        assert len(equities(desk)) == 1
        assert desk.live.halts.history() == ()
