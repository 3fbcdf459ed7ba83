"""Validation of a venue's bars against prices and later bars, and of its marks against trades."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import replace

import numpy as np

from execution.orders.account_snapshot import AccountSnapshot
from execution.orders.last_trades import TradeSource, fetch_last_trades
from foundation.arrays import Mask
from foundation.formatting import format_count
from trainingdata.bars import CLOSE, OPEN, Bars, last_closes_by_symbol
from trainingdata.confirmation import drop_unconfirmed_bars, find_contradicted_bars
from trainingdata.instants import DAY

log = logging.getLogger(__name__)

# Consecutive prices of one symbol, such as the close of a bar and the venue's next price, differ by
# less than this share. Otherwise one of the two is wrong, or only one includes a split.
MAX_PRICE_GAP = 0.2
MAX_TRADE_AGE = 7 * DAY  # a last trade of this age or older confirms no mark
UNKNOWN_PRICE = float("nan")


def missing_history_reasons(bars: Bars, symbols: Iterable[str], min_bars: int) -> dict[str, str]:
    """Return the reasons why symbols lack the history for a forecast, by symbol.

    symbols: symbols on which an earlier cycle has decided.
    min_bars: minimum number of bars for a forecast.
    """
    listed = dict(zip(bars.symbols, bars.has_bar.sum(axis=1).tolist(), strict=True))
    counts = {symbol: listed.get(symbol, 0) for symbol in sorted(symbols)}
    return {
        symbol: f"traded before, but the venue lists only {format_count(count, 'bar')} of it"
        for symbol, count in counts.items()
        if count < max(min_bars, 1)
    }


class BarValidator:
    """Validator of a venue's bars over successive cycles.

    A bar whose close contradicts the venue's price is rejected until the venue corrects the bar. It
    is also accepted again once the next bar opens closer to its close than to that price.
    """

    def __init__(self) -> None:
        self._denied: dict[tuple[str, np.datetime64], tuple[float, float]] = {}  # close, price

    def validate(self, bars: Bars, prices: Mapping[str, float]) -> tuple[Bars, dict[str, str]]:
        """Return the panel without rejected bars, and the reasons why last bars are rejected.

        The reasons are by symbol. These symbols become untradable. Any other rejected bar only
        counts as missing.

        prices: the venue's prices of symbols whose bar has just ended, USD.
        """
        now = find_contradicted_bars(bars, prices, MAX_PRICE_GAP)
        still = self._find_still_rejected(bars, now)
        agreeing = bars.drop_bars(now | still)
        self._store_rejected(bars, now, still, prices)
        valid = drop_unconfirmed_bars(agreeing)
        closes = last_closes_by_symbol(bars)
        rejected_bars = {}
        items = list(bars.instruments)
        for s, symbol in enumerate(bars.symbols):
            rows = np.flatnonzero(bars.mask[s])[-1:]
            if not len(rows) or valid.mask[s, rows[0]]:
                continue
            why = "not yet confirmed by another bar"
            if not agreeing.mask[s, rows[0]]:
                price = prices.get(symbol)
                why = "contradicted by an earlier price of the venue"
                if price is not None:
                    why = f"but the venue's price is {price:g}"
            rejected_bars[symbol] = f"the latest bar closes at {closes[symbol]:g}, {why}"
            # A split changes the unit of shares: decided before it and ordered after it, an order
            # would be for a multiple or a part of the intended quantity.
            items[s] = replace(items[s], is_tradable=False)
            log.warning("%s: not traded: %s", symbol, rejected_bars[symbol])
        return replace(valid, instruments=tuple(items)), rejected_bars

    def _find_still_rejected(self, bars: Bars, now: Mask) -> Mask:
        """Return the mask [S, T] of bars that stay rejected from an earlier cycle.

        A bar stays rejected as long as it is unchanged, and no later bar confirms it.

        now: [S, T] bars that are contradicted in this cycle.
        """
        still = np.zeros(bars.mask.shape, dtype=bool)
        for (symbol, at), (close, price) in self._denied.items():
            row = int(np.searchsorted(bars.times, at))
            if symbol not in bars.symbols or row >= len(bars.times) or bars.times[row] != at:
                continue
            s = bars.symbols.index(symbol)
            after = bars.values[s, row + 1 :, OPEN][bars.mask[s, row + 1 :] & ~now[s, row + 1 :]]
            sides = abs(np.log(after[:1] / close)) < abs(np.log(after[:1] / price))
            still[s, row] = bars.values[s, row, CLOSE] == close and not sides.any()
        return still

    def _store_rejected(
        self, bars: Bars, now: Mask, still: Mask, prices: Mapping[str, float]
    ) -> None:
        """Store the rejected bars for the next cycle, and forget all others.

        now: [S, T] bars that are contradicted in this cycle.
        still: [S, T] bars that stay rejected from an earlier cycle.
        """
        denied = {}
        for s, t in np.argwhere(now | still).tolist():
            name = bars.symbols[s], np.datetime64(bars.times[t])
            close = float(bars.values[s, t, CLOSE])
            denied[name] = (close, prices[name[0]]) if now[s, t] else self._denied[name]
        self._denied = denied


class MarkValidator:
    """Validator of an account's marks over successive account snapshots.

    A mark close to the last accepted mark is valid. Any other mark is valid if it is close to the
    feed's last trade. Without a recent trade, it is valid if two consecutive readings of the
    account have about the same mark.

    feed: source of last trades.
    """

    def __init__(self, feed: TradeSource) -> None:
        self._feed = feed
        self._accepted: Mapping[str, float] = {}  # USD by symbol
        self._read: Mapping[str, float] = {}  # the same, at the last reading

    def find_rejected_marks(self, account: AccountSnapshot, *, reread: bool) -> dict[str, float]:
        """Return the reference price, USD, of each symbol whose mark is rejected; NaN if unknown.

        The reference price is the last trade. Without a recent trade it is the mark of the previous
        reading, if `reread` is true.

        reread: true if the previous reading was rejected.
        """
        before = self._read if reread else {}
        self._read = _marks(account)
        far = [s for s, mark in self._read.items() if not _is_near(mark, self._accepted.get(s))]
        prices = {**before, **self._last_trade_prices(far, account.as_of)} if far else {}
        return {
            symbol: prices.get(symbol, UNKNOWN_PRICE)
            for symbol in far
            if not _is_near(self._read[symbol], prices.get(symbol))
        }

    def accept_marks(self, account: AccountSnapshot) -> None:
        self._accepted = _marks(account)

    def last_accepted_mark(self, symbol: str) -> float | None:
        """Return the last accepted mark of a symbol, USD; None before the first."""
        return self._accepted.get(symbol)

    def _last_trade_prices(self, symbols: Iterable[str], now: np.datetime64) -> dict[str, float]:
        """Return the price of each symbol's last trade, USD by symbol, without old trades."""
        trades = fetch_last_trades(self._feed, symbols)
        return {
            symbol: trade.price
            for symbol, trade in trades.items()
            if now - trade.traded_at < MAX_TRADE_AGE
        }


def _marks(account: AccountSnapshot) -> dict[str, float]:
    return {symbol: account.prices[symbol] for symbol, held in account.positions.items() if held}


def _is_near(price: float, other: float | None) -> bool:
    return other is not None and abs(price / other - 1.0) < MAX_PRICE_GAP
