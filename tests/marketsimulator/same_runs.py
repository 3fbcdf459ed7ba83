"""A walk and the same trader asked step by step: one run."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd

from execution.decision import Decision
from execution.records import Run
from execution.trader import Trader
from marketsimulator.runs.decisions import WalkedDecisions
from marketsimulator.runs.simulate import simulate_trading, step_trading
from marketsimulator.settings import BacktestSettings
from trainingdata.market import Market

NEAR = {"rtol": 1e-9, "atol": 1e-12}


def walked_as_stepped(settings: BacktestSettings, market: Market, trader: Trader) -> Run:
    """The backtest of a trader on its table, once it has been found to be what a trader asked at
    every instant does.
    """
    own = replace(settings.trader(trader.forecaster), table=trader.table)
    walked = simulate_trading(settings, market, "x", own)
    assert isinstance(walked.decisions, WalkedDecisions)
    stepped = step_trading(settings, market, "x", own, settings.broker(market))
    assert walked.fills == stepped.fills
    assert walked.rows == stepped.rows
    assert walked.margin == stepped.margin
    assert walked.bookings == stepped.bookings
    assert len(walked.decisions) == len(stepped.decisions)
    for one, other in zip(walked.decisions, stepped.decisions, strict=True):
        same_decision(one, other)
    pd.testing.assert_frame_equal(walked.decision_frame(), stepped.decision_frame(), **NEAR)
    pd.testing.assert_frame_equal(walked.order_frame(), stepped.order_frame())
    assert walked.log.at.tolist() == stepped.log.at.tolist()
    assert walked.log.stock_ceilings.tolist() == stepped.log.stock_ceilings.tolist()
    assert walked.log.failures == stepped.log.failures
    assert walked.not_filled_whole() == stepped.not_filled_whole()
    return walked


def same_decision(one: Decision, other: Decision) -> None:
    """Of two decisions all is equal, but for the last bits of what explains them."""
    for name in ("at", "until", "equity", "stock_ceiling", "rule", "failure", "cancels"):
        assert getattr(one, name) == getattr(other, name), name
    assert [(o.client_order_id, o.side, o.qty, o.reduces, o.tif) for o in one.orders] == [
        (o.client_order_id, o.side, o.qty, o.reduces, o.tif) for o in other.orders
    ]
    for mine, its in zip(one.choices, other.choices, strict=True):
        exact = ("symbol", "mu", "sigma", "held", "target", "qty", "price", "cost")
        for name in exact:
            np.testing.assert_equal(getattr(mine, name), getattr(its, name))
        assert list(mine.binding) == list(its.binding)
        np.testing.assert_allclose(list(mine.binding.values()), list(its.binding.values()), **NEAR)
        assert (mine.rationale.shrinkage is None) == (its.rationale.shrinkage is None)
        numbers = [
            np.array([np.nan if value is None else value for value in (c.kelly, *c.rationale)])
            for c in (mine, its)
        ]
        np.testing.assert_allclose(*numbers, **NEAR)
