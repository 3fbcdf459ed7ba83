"""A run changes how Python collects its garbage only while it runs."""

from __future__ import annotations

import gc
from contextlib import nullcontext

import pytest

from execution.orders import Account
from marketsimulator.runs.simulate import simulate_trading
from marketsimulator.settings import BacktestSettings
from trainingdata.bars import Bars
from trainingdata.market import Market


class Looks:
    """Decides nothing; notes how garbage is collected while it is asked, and may fail then."""

    def __init__(self, fails: bool) -> None:
        self.fails = fails
        self.seen: list[tuple[int, int, int]] = []

    def decide(self, bars: Bars, account: Account) -> None:
        self.seen.append(gc.get_threshold())
        if self.fails and len(self.seen) == 3:
            raise RuntimeError("no decision")


@pytest.mark.parametrize("fails", [False, True])
def test_full_collections_wait_for_the_end_of_a_run_and_come_back(
    fails: bool, market: Bars
) -> None:
    before = gc.get_threshold()
    looks = Looks(fails)
    with pytest.raises(RuntimeError, match="no decision") if fails else nullcontext():
        simulate_trading(BacktestSettings(), Market(market.between(0, 60)), "looks", looks)
    assert gc.get_threshold() == before
    assert {seen[:2] for seen in looks.seen} == {before[:2]}
    assert min(seen[2] for seen in looks.seen) > 1_000_000
