"""One bad bar of one symbol moves no other symbol, of the live loop, a backtest and a replay."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from execution.decision.decision import Decision
from execution.live.account_lock import JOURNAL_FILE
from execution.live.validation import BarValidator
from foundation.compose import compose_config
from foundation.database import query_rows
from marketsimulator.run_result import Run
from marketsimulator.runs.simulate import simulate_trading
from marketsimulator.settings import BacktestSettings
from practice.alpaca import market_data
from practice.alpaca.stocks import Venue
from tests.e2e.practice import Live, Practice, Start, broker, practising, write_bars
from tests.support.desks import Desk
from trainingdata.synthetic import SyntheticMarket

CYCLES = ("2024-02-20T15:30:00Z", "2024-02-20T16:30:00Z", "2024-02-20T17:30:00Z")
WORDS = (
    *("symbols=[SYA,SYB,SYC]", "forecaster=ewma", "forecaster.calibrated=false"),
    *("prior.stock_sharpe=1.0", "sizing.holding=plan"),
)
DENIED = "the venue's price is"
ODD = [("o", 5.0), ("l", 0.2), ("c", 1.7)]
SYMBOLS = ("SYA", "SYB", "SYXUSD")
NAMES = {"o": "open", "h": "high", "l": "low", "c": "close"}
FILED = (
    f"symbols=[{','.join(SYMBOLS)}]",
    "forecaster=ewma",
    "forecaster.calibrated=false",
    "prior.stock_sharpe=1.0",
)


def spoil(
    monkeypatch: pytest.MonkeyPatch, begins: str, factor: float | None, price: str = "c"
) -> None:
    """Have the venue's history show SYA's bar of an hour with another price, or not at all.

    Its latest bar, its last trade and what it values positions at stay as they are.
    """
    real = market_data.bars_response

    def spoilt(venue: Venue, *rest: Any, latest_count: int = 0) -> dict[str, list[dict[str, Any]]]:
        found = real(venue, *rest, latest_count=latest_count)
        if latest_count or "SYA" not in found:
            return found
        rows = []
        for bar in found["SYA"]:
            if not bar["t"].startswith(begins):
                rows.append(bar)
            elif factor is not None:
                odd = {**bar, price: bar[price] * factor}
                prices = [odd[name] for name in NAMES]
                rows.append({**odd, "h": max(prices), "l": min(prices)})
        return {**found, "SYA": rows}

    monkeypatch.setattr(market_data, "bars_response", spoilt)


@dataclass
class Passed:
    """Three passes of a live job: their decisions, its journal, and the venue it traded at."""

    decisions: list[Decision]
    journal: Path
    here: Practice

    @classmethod
    def of(cls, start: Start, folder: Path) -> Passed:
        here = start(*WORDS)
        folder.mkdir()
        here.advance(CYCLES[0])
        desk = Desk.at(here, folder, *WORDS)
        desk.job.step()
        for at in CYCLES[1:]:
            desk.step_at(at)
        decisions = [cycle.decision for cycle in desk.cycles if cycle.decision is not None]
        assert len(decisions) == len(CYCLES)
        return cls(decisions, folder / JOURNAL_FILE, here)

    def decided(self) -> list[Any]:
        """What it decided and ordered at every cycle."""
        return [(d.choices, d.orders) for d in self.decisions]


@pytest.fixture(scope="module")
def without(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Passed]]:
    """Passes that see nothing of SYA's bar of an hour; those of no hour are undisturbed."""
    with practising() as start:

        @cache
        def passed(begins: str) -> Passed:
            folder = tmp_path_factory.mktemp("without") / "passes"
            with pytest.MonkeyPatch.context() as patch:
                if begins:
                    spoil(patch, begins, None)
                return Passed.of(start, folder)

        yield passed


def of_symbols(decision: Decision, *symbols: str) -> list[Any]:
    return [choice for choice in decision.choices if choice.symbol in symbols]


@pytest.mark.first_example
@pytest.mark.parametrize(
    ("price", "factor", "held", "why"),
    [
        ("c", 100.0, True, DENIED),
        ("c", 0.5, False, DENIED),
        ("o", 5.0, True, "not yet confirmed by another bar"),
        pytest.param("l", 0.2, True, "not yet confirmed by another bar", marks=pytest.mark.slow),
    ],
)
def test_bad_last_bar_affects_no_other_symbol(
    practice: Start,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    without: Callable[[str], Passed],
    price: str,
    factor: float,
    held: bool,
    why: str,
) -> None:
    """The symbol itself takes no orders, one alert names it, and the next good bar resumes
    trading.
    """
    bad = 1 if held else 0
    begins = ("2024-02-20T14:30", "2024-02-20T15:30")[bad]
    undisturbed = without("")
    spoil(monkeypatch, begins, factor, price)
    spoilt = Passed.of(practice, tmp_path / "spoilt")
    assert spoilt.decided() == without(begins).decided()
    decision = spoilt.decisions[bad]
    assert not of_symbols(decision, "SYA")
    assert all(order.symbol != "SYA" for order in decision.orders)
    [undoubted] = of_symbols(undisturbed.decisions[bad], "SYA")
    assert bool(undoubted.held_weight) == held
    others = [of_symbols(each, "SYB", "SYC") for each in (decision, undisturbed.decisions[bad])]
    for mine, theirs in zip(*others, strict=True):
        assert np.sign(mine.target_weight) == np.sign(theirs.target_weight)
    assert of_symbols(spoilt.decisions[2], "SYA"), "the next good bar is decided on"
    ((said,),) = query_rows(spoilt.journal, "SELECT text FROM notices WHERE kind = 'bars'")
    assert "SYA: the latest bar closes at" in said
    assert why in said
    assert not query_rows(undisturbed.journal, "SELECT 1 FROM notices")
    ended = [each.here.venue.broker.equity_row().equity for each in (spoilt, undisturbed)]
    assert ended[0] == pytest.approx(ended[1], rel=0.01)
    marks = "SELECT gross_stock / equity, stock_ceiling FROM marks"
    for gross, ceiling in query_rows(spoilt.journal, marks):
        assert gross <= ceiling * (1 + 1e-9)


def filed(folder: Path, *odd: tuple[int, str, float], without: int | None = None) -> Path:
    """Files of three symbols; SYA's with prices of some rows times a factor, or without a row."""
    folder.parent.mkdir(exist_ok=True)
    market = SyntheticMarket(symbols=SYMBOLS, start="2024-01-02", end="2024-02-23").generate_bars()
    path = write_bars(market, folder, SYMBOLS) / "SYA.csv"
    frame = pd.read_csv(path)
    for row, price, factor in odd:
        frame.loc[row, NAMES[price]] *= factor
    prices = frame[list(NAMES.values())]
    frame["high"], frame["low"] = prices.max(axis=1), prices.min(axis=1)
    frame.drop(index=[] if without is None else [without]).to_csv(path, index=False)
    return folder


def backtested(settings: BacktestSettings) -> Run:
    market = settings.load_market()
    trader = settings.build_trader(settings.forecaster.build(market.bars.symbols))
    return simulate_trading(settings, market, "alone", trader)


def test_backtest_with_a_bad_bar_equals_one_without(tmp_path: Path) -> None:
    row = 33 * 7 + 3  # of 2024-02-20
    folders = [filed(tmp_path / "missing", without=row)]
    folders += [filed(tmp_path / price / f"{x}", (row, price, x)) for price, x in ODD]
    words = ("start=2024-02-20T14:00Z", "end=2024-02-20T21:00Z", "trials=null", *FILED)
    settings = BacktestSettings.from_config(
        compose_config("backtest", [f"data.dir=[{folders[0]}]", *words])
    )
    missing, *spoilt = (
        backtested(replace(settings, data=replace(settings.data, dir=(str(folder),))))
        for folder in folders
    )
    assert missing.fills
    for run in spoilt:
        assert run.fills == missing.fills
        assert run.equity_rows == missing.equity_rows


ROW = 33 * 7  # of 2024-02-20
SPIKES = [*[(ROW + k, price, 0.5) for k in (1, 2) for price in NAMES], (ROW + 5, "o", 5.0)]
SQUEEZE = [(ROW + k, "c" if k % 2 else "o", 1.7) for k in (1, 2, 3, 4, 5, 6)]


@pytest.mark.first_example
@pytest.mark.parametrize(
    "wrong", [pytest.param(SPIKES, id="spikes"), pytest.param(SQUEEZE, id="squeeze")]
)
def test_replay_rejects_the_same_bars_as_backtest(
    practice: Start, tmp_path: Path, wrong: list[tuple[int, str, float]]
) -> None:
    """Bars are not validated twice, by the file reader and by the loop."""
    folder = filed(tmp_path / "bars", *wrong)
    span = ("start=2024-02-20T15:30Z", "end=2024-02-21T15:30Z")
    here = practice(*FILED, f"data.dir=[{folder}]", *span, "sizing.holding=plan")
    settings = here.venue.settings
    expected = backtested(replace(settings, fills=replace(settings.fills, remainder="cancel")))
    live = Live.at(here, *FILED, "sizing.holding=plan")
    live.through(here, validator=BarValidator())
    assert expected.fills
    assert here.venue.broker.fills == expected.fills
    assert here.venue.broker.equity_row().equity == expected.equity_rows[-1].equity


@pytest.mark.wire
def test_without_feed_prices_position_prices_validate_the_bars(
    practice: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = practice(*WORDS)
    here.advance(CYCLES[0])
    live = Live.at(here, *WORDS)
    assert live.cycle(broker(here)).decision is not None
    assert here.venue.broker.account().positions.get("SYA")
    here.advance(CYCLES[1])
    spoil(monkeypatch, "2024-02-20T15:30", 0.7)
    monkeypatch.setattr(live.feed, "prices", lambda *_: {})
    assert list(live.cycle(broker(here)).rejected_bars) == ["SYA"]


def cut(patch: pytest.MonkeyPatch, left: int) -> None:
    """Have the venue's history show so many of SYA's latest bars alone, the first in part."""
    real = market_data.bars_response

    def stump(venue: Venue, *rest: Any, latest_count: int = 0) -> dict[str, list[dict[str, Any]]]:
        found = real(venue, *rest, latest_count=latest_count)
        if latest_count or "SYA" not in found:
            return found
        rows = found["SYA"][len(found["SYA"]) - left :]
        return {**found, "SYA": [{**row, "o": row["c"]} for row in rows[:1]] + rows[1:]}

    patch.setattr(market_data, "bars_response", stump)


@pytest.mark.wire
def test_truncated_history_affects_no_other_symbol(
    practice: Start, tmp_path: Path, without: Callable[[str], Passed]
) -> None:
    """The cycle decides as if only that symbol lacked its bar; the next cycle is normal again."""
    here = practice(*WORDS)
    desk = Desk.at(here, tmp_path, *WORDS)
    for at in CYCLES:
        here.advance(at)
        with pytest.MonkeyPatch.context() as patch:
            if at == CYCLES[1]:
                cut(patch, 3)
            desk.job.step()
    decisions = [cycle.decision for cycle in desk.cycles if cycle.decision is not None]
    decided = Passed(decisions, tmp_path, here).decided()
    assert decided[:2] == without("2024-02-20T15:30").decided()[:2]
    assert of_symbols(decisions[2], "SYA"), "it goes on"
    ((said,),) = desk.database.query("SELECT text FROM notices WHERE kind = 'bars'")
    assert "SYA: the venue returned only" in said


@pytest.mark.wire
@pytest.mark.first_example
@pytest.mark.parametrize("left", [3, 0])
def test_restart_with_truncated_history_skips_one_cycle(
    practice: Start, tmp_path: Path, left: int
) -> None:
    """If a second cycle finds the same history, the other symbols are decided and an alert is
    sent.
    """
    here = practice(*WORDS)
    here.advance(CYCLES[0])
    desk = Desk.at(here, tmp_path, *WORDS)
    desk.job.step()
    with pytest.MonkeyPatch.context() as patch:
        cut(patch, left)
        for number, at in enumerate(CYCLES[1:]):
            here.advance(at)
            sent = len(here.venue.broker.fills)
            desk = desk.again()
            desk.job.step()
            [cycle] = desk.cycles
            assert (cycle.decision is None) == (number == 0)
            if number == 0:
                assert cycle.idle_reason.startswith("SYA: traded before, but the venue lists only")
                assert len(here.venue.broker.fills) == sent
    assert cycle.decision is not None
    assert {choice.symbol for choice in cycle.decision.choices} == {"SYB", "SYC"}
    told = query_rows(tmp_path / JOURNAL_FILE, "SELECT text FROM notices WHERE kind = 'bars'")
    assert len(told) == 2
    assert all("SYA: traded before" in text for (text,) in told)
