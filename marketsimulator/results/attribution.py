"""Attribution: the profit of an account split into seven parts, by symbol and hour of day.

At instant i a symbol has the mark m (its last known close) and, after the fills of i, the quantity
q. One share at i - 1 is r shares at i (r = 1 except for splits). The profit from i - 1 to i is

    q[i-1] (r m[i] - m[i-1]) + sum over fills (dq m[i] - paid) + other cash flows

The last decision by i - 1, with equity E and price p, determines three quantities: the quantity
before limits W = kelly E / p, the target T = target E / p, and the quantity after its orders
Q = held E / p + qty. They split q[i-1] into these parts:

    premium    E times the weight on the premium alone, / p
    forecast   E times the weight on the forecast alone, / p; both before limits, signed, from the
               decision's rationale; 0 if unknown
    limits     T - W if a limit binds, else 0
    sizing     the rest of Q: T - W if no limit binds (plan, trading costs), rounding to lots
               Q - T, and the part of W from neither premium nor forecast (hedges, shape of
               returns, rules). If W is unknown (buy and hold, unsized symbols), all of Q
    timing     q[i-1] - Q: late or partial fills, crypto fees, liquidations, no decision

Each is multiplied by r m[i] - m[i-1]. The events at i add

    costs      spread, slippage and impact, fees, crypto fees at the price of their fill, rounding
    financing  interest, borrow fees, dividends, cash for fractional shares; other and unlisted
               bookings of a live account
    timing     quantity times (m[i] less the price before costs) of each fill: the move from the
               decision's price to the fill, and for a delisted symbol from its last price to the
               payout

The parts add up to the profit by definition. A split changes W, T and Q in the same ratio as q.
Target positions that were never filled are in no part.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

import numpy as np
import numpy.typing as npt
import pandas as pd

from execution.decision.decision import NON_LIMIT_REASONS
from execution.orders.orders import Fill, parse_order_prefix
from foundation.arrays import Array, Index, Instants, Mask
from marketsimulator.run_result import CRYPTO_FEE_ORDER_PREFIX, DELISTED, Booking, BookingKind, Run
from trainingdata.bars import CLOSE
from trainingdata.instants import NEW_YORK
from trainingdata.market import Market

ProfitPart = Literal["premium", "forecast", "sizing", "limits", "costs", "financing", "timing"]
PROFIT_PARTS: tuple[ProfitPart, ...] = get_args(ProfitPart)
ACCOUNT_LABEL = "account"  # cash flows that belong to no symbol
_ORDERED_QUANTITY_PARTS = slice(0, 4)  # parts of the ordered quantity
_COSTS, _FINANCING, _TIMING = range(4, 7)
_COST_KINDS: tuple[BookingKind, ...] = ("spread", "slippage", "rounding")


@dataclass(frozen=True, eq=False, slots=True)
class Attribution:
    """Profit of a run by symbol, hour of day and part.

    symbols: names of the symbols; the last one stands for the account as a whole, whose cash flows
        belong to no symbol.
    times_of_day: New York times of day, such as 10:30.
    profit: [symbols, hours, 7] profit by part in the order of `PROFIT_PARTS`, USD.
    """

    symbols: tuple[str, ...]
    times_of_day: tuple[str, ...]
    profit: Array

    def profit_by_symbol(self) -> dict[str, dict[ProfitPart, float]]:
        """Return the profit of each symbol and of the account, by part, USD."""
        return _profit_by_name(self.symbols, self.profit.sum(axis=1))

    def profit_by_hour(self) -> dict[str, dict[ProfitPart, float]]:
        """Return the profit of each hour of day, by part, USD."""
        return _profit_by_name(self.times_of_day, self.profit.sum(axis=0))

    def as_dict(self) -> dict[str, dict[str, dict[ProfitPart, float]]]:
        """Return the profit by part for each symbol and hour, as in `summary.json`, USD."""
        return {"symbols": self.profit_by_symbol(), "hours": self.profit_by_hour()}


class SymbolHistory(NamedTuple):
    """Marks, quantities and cash flows of one symbol at N instants.

    Amounts are in USD; quantities are signed shares or coins.

    marks: [N] last known price.
    initial_mark_and_quantity: mark and quantity before the first instant.
    split_ratios: [N] new shares per old share since the previous instant.
    quantity_changes: [N] change of the quantity, splits included.
    traded_value: [N] sum of quantity times price of the fills.
    spread_and_slippage: [N] spread and slippage within `traded_value`, not negative.
    crypto_fees: [N] value of fees charged in crypto, at the price of the fill.
    other_costs: [N] fees in USD, not negative.
    financing: [N] cash flows from financing; negative if paid.
    """

    marks: Array
    initial_mark_and_quantity: tuple[float, float]
    split_ratios: Array
    quantity_changes: Array
    traded_value: Array
    spread_and_slippage: Array
    crypto_fees: Array
    other_costs: Array
    financing: Array


def split_ordered_quantity(decisions: pd.DataFrame) -> Array:
    """Split the quantity after each decision's orders into four parts, [D, 4].

    Parts: premium, forecast, sizing and limits.

    decisions: rows of `Run.decision_frame` of one symbol.
    """

    def float_column(name: str) -> Array:
        return decisions[name].to_numpy(dtype=np.float64)

    with np.errstate(all="ignore"):
        unit = float_column("equity") / float_column("price")
        target = float_column("target") * unit
        ordered = float_column("held") * unit + float_column("qty")
        # An account without equity has no weights: whatever it holds is closed.
        ordered = np.where(np.isfinite(ordered), ordered, target)
        wanted = float_column("kelly") * unit
        premium = float_column("plan_premium_weight") * unit
        forecast = float_column("plan_forecast_weight") * unit
        limits = np.where(_has_binding_limit(decisions["binding"]), target - wanted, 0.0)
    sized = np.isfinite(wanted)
    limits = np.where(sized, limits, 0.0)
    known = sized & np.isfinite(premium) & np.isfinite(forecast)
    premium = np.where(known, premium, 0.0)
    forecast = np.where(known, forecast, 0.0)
    return np.column_stack([premium, forecast, ordered - premium - forecast - limits, limits])


def _has_binding_limit(binding: pd.Series) -> Mask:
    """Return whether a limit binds in each decision, [D].

    binding: names of binding limits and of other reasons, joined by "+".
    """
    named = {
        text: any(name not in NON_LIMIT_REASONS for name in text.split("+"))
        for text in binding.unique()
    }
    return binding.map(named).to_numpy(dtype=np.bool_)


def attribute_symbol_profit(history: SymbolHistory, rows: Index, quantities: Array) -> Array:
    """Return a symbol's profit at each instant by part (`PROFIT_PARTS`), [N, 7], USD.

    rows: [D] instant number of each decision, ascending; a decision applies to fills from that
        instant on.
    quantities: [D, 4] parts of the ordered quantity, from `split_ordered_quantity`.
    """
    h = history
    mark, quantity = h.initial_mark_and_quantity
    held = np.append(quantity, quantity + np.cumsum(h.quantity_changes)[:-1])
    move = h.split_ratios * h.marks - np.append(mark, h.marks[:-1])
    grown = np.asarray(np.cumprod(h.split_ratios), dtype=np.float64)
    planned = _planned_quantities(rows, quantities, grown)
    parts = np.zeros((len(h.marks), len(PROFIT_PARTS)))
    parts[:, _ORDERED_QUANTITY_PARTS] = planned * move[:, None]
    parts[:, _COSTS] = 0.0 - h.spread_and_slippage - h.crypto_fees - h.other_costs
    parts[:, _FINANCING] = h.financing
    otherwise = (held - planned.sum(axis=1)) * move
    traded = (h.quantity_changes - (h.split_ratios - 1.0) * held) * h.marks - h.traded_value
    parts[:, _TIMING] = otherwise + traded + h.spread_and_slippage + h.crypto_fees
    return parts


def attribute_run_profit(run: Run, market: Market) -> Attribution:
    """Attribute a run's profit to its parts, by symbol and hour of day."""
    bars = market.bars
    at, _ = run.equity_curve()
    hour, labels = group_by_time_of_day(at)
    usd = np.zeros((len(bars.symbols) + 1, len(labels), len(PROFIT_PARTS)))
    fills: dict[str, list[tuple[int, Fill, float]]] = {symbol: [] for symbol in bars.symbols}
    rows_of_fills = _rows_at(at, [fill.booked_at for fill in run.fills])
    for k, fill, taken in zip(rows_of_fills, run.fills, value_crypto_fees(run.fills), strict=True):
        fills[fill.symbol].append((k, fill, taken))
    bookings: dict[str, list[tuple[int, Booking]]] = {}
    booked_at = [booking.at for booking in run.bookings]
    for k, booking in zip(_rows_at(at, booked_at), run.bookings, strict=True):
        bookings.setdefault(booking.symbol, []).append((k, booking))
    decisions = run.decision_frame()
    decided = np.array(
        _rows_at(at, decisions["at"].to_numpy(dtype="datetime64[ns]")), dtype=np.int64
    )
    places = decisions.groupby("symbol").indices
    nowhere = np.zeros(0, dtype=np.int64)
    for s, symbol in enumerate(bars.symbols):
        begin = run.initial_positions.get(symbol)
        if not fills[symbol] and begin is None:
            continue
        marks, ratios = marks_and_split_ratios(market, s, at)
        changes, paid, crypto_fees, fees = (np.zeros(len(at)) for _ in range(4))
        for k, fill, taken in fills[symbol]:
            quantity = float(fill.qty)
            changes[k] += quantity
            paid[k] += quantity * fill.price
            fees[k] += fill.fee
            crypto_fees[k] += taken
        booked = _bookings_by_part(bookings.get(symbol, ()), len(at))
        before = (float(marks[0]), 0.0 if begin is None else float(begin.quantity))
        beside = -booked["costs"], crypto_fees, fees, booked["financing"]
        history = SymbolHistory(marks, before, ratios, changes, paid, *beside)
        own = places.get(symbol, nowhere)
        parts = attribute_symbol_profit(
            history, decided[own], split_ordered_quantity(decisions.iloc[own])
        )
        np.add.at(usd[s], hour, parts)
    for part, amounts in _bookings_by_part(bookings.get("", ()), len(at)).items():
        np.add.at(usd[-1, :, PROFIT_PARTS.index(part)], hour, amounts)
    return Attribution((*bars.symbols, ACCOUNT_LABEL), labels, usd)


def value_crypto_fees(fills: Iterable[Fill]) -> list[float]:
    """Return the value of each fill that is a crypto fee, USD; 0 for all other fills.

    A crypto fee is a fill at price 0 that follows its purchase. It is valued at the price of the
    symbol's preceding trade.
    """
    traded: dict[str, Fill] = {}
    taken = []
    for fill in fills:
        worth = 0.0
        before = traded.get(fill.symbol)
        if fill.price > 0:
            traded[fill.symbol] = fill
        elif before is not None:
            order = fill.client_order_id
            if (
                order == before.client_order_id
                or parse_order_prefix(order) == CRYPTO_FEE_ORDER_PREFIX
            ):
                worth = -float(fill.qty) * before.price
        taken.append(worth)
    return taken


def marks_and_split_ratios(
    market: Market, symbol_index: int, instants: Instants
) -> tuple[Array, Array]:
    """Return a symbol's last close and split ratio at each instant, [N] each.

    The split ratio is the number of new shares per old share since the previous instant. Instants
    before the first close have the first close.
    """
    times, values = market.bars.bars_of_symbol(symbol_index)
    latest = np.searchsorted(times, instants, side="right") - 1
    marks = values[np.maximum(latest, 0), CLOSE].copy()
    known = times[np.maximum(latest, 0)]
    ratios = np.ones(len(instants))
    for split in market.splits:
        k = int(np.searchsorted(instants, split.effective_open))
        if split.symbol != market.bars.symbols[symbol_index] or not 0 < k < len(instants):
            continue
        ratios[k] *= split.split_ratio
        old = np.arange(len(instants)) >= k
        marks[old & (known < instants[k])] /= split.split_ratio
    return marks, ratios


def group_by_time_of_day(instants: Instants) -> tuple[Index, tuple[str, ...]]:
    """Return the index of each instant's time of day [N], and the New York times it refers to.

    The times are texts such as "10:30", sorted and without duplicates.
    """
    local = pd.DatetimeIndex(instants).tz_localize("UTC").tz_convert(NEW_YORK)
    minutes, number = np.unique(local.hour * 60 + local.minute, return_inverse=True)
    labels = tuple(f"{each // 60:02d}:{each % 60:02d}" for each in minutes.tolist())
    return number.astype(np.int64), labels


def _planned_quantities(rows: Index, quantities: Array, grown: Array) -> Array:
    """Return the ordered quantity in force before each instant, split into four parts, [N, 4].

    Parts: premium, forecast, sizing and limits, in shares of the previous instant.

    rows: [D] instant number of each decision.
    quantities: [D, 4] parts of each decision's ordered quantity.
    grown: [N] cumulative split ratio since the start.
    """
    planned = np.zeros((len(grown), 4))
    latest = np.searchsorted(rows, np.arange(len(grown)), side="left") - 1
    decided = latest >= 0
    chosen = latest[decided]
    before = np.append(1.0, grown[:-1])[decided]
    planned[decided] = quantities[chosen] * (before / grown[rows[chosen]])[:, None]
    return planned


def _bookings_by_part(
    bookings: Iterable[tuple[int, Booking]], count: int
) -> dict[ProfitPart, npt.NDArray[np.float64]]:
    """Return the amounts booked at each instant as costs and as financing, signed, [N] each, USD.

    bookings: pairs of instant number and booking.
    count: N.
    """
    booked: dict[ProfitPart, Array] = {"costs": np.zeros(count), "financing": np.zeros(count)}
    for k, booking in bookings:
        if booking.kind in ("transfer", DELISTED):
            continue
        part: ProfitPart = "costs" if booking.kind in _COST_KINDS else "financing"
        booked[part][k] += booking.usd
    return booked


def _profit_by_name(names: Sequence[str], usd: Array) -> dict[str, dict[ProfitPart, float]]:
    rows = zip(names, usd.tolist(), strict=True)
    return {name: dict(zip(PROFIT_PARTS, amounts, strict=True)) for name, amounts in rows}


def _rows_at(at: Instants, instants: Sequence[np.datetime64] | Instants) -> list[int]:
    """Return the row of `at` for each instant: the first row that is not earlier.

    Instants after the last row map to the last row.
    """
    rows = np.searchsorted(at, np.array(instants, dtype=at.dtype))
    return np.minimum(rows, len(at) - 1).tolist()  # type: ignore[no-any-return]
