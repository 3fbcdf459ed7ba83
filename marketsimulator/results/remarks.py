"""Remarks on a run: data warnings and notes on its figures, one sentence each.

Functions that report something return a list of sentences, empty if there is nothing to report.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal

import numpy as np

from execution.decision.choice import Choice
from execution.decision.decision import NO_ORDER_REASONS
from execution.decision.protection import ProtectionSettings
from execution.decision.sizing import MAX_LOOKBACK, SizingSettings
from execution.decision.tiers import DrawdownTiers
from execution.decision.watch import WatchSettings
from execution.orders.fees import FeeSchedule
from execution.orders.orders import DEFAULT_SIZE_LIMITS, OrderSizeLimits
from forecasting.calibration.fit import MIN_REGRESSION_INSTANTS
from forecasting.forecast import HORIZON, NO_FORECAST, has_look_ahead, is_calibrated
from forecasting.settings import ForecasterSettings
from foundation.arrays import Mask
from foundation.decimals import to_cents
from foundation.formatting import (
    MIN_DAYS_FOR_ANNUAL_FIGURES,
    MIN_FILLS_FOR_ANNUAL_FIGURES,
    allows_annual_figures,
    format_basis_points,
    format_count,
    format_number,
    format_percent,
    format_rounded_price,
    format_usd,
)
from foundation.plugin import is_plugin
from marketsimulator.results.significance import NO_ANNUAL_FIGURES_NOTE
from marketsimulator.run_result import DELISTED, Run
from sizing.settings import Limits
from trainingdata.bars import CLOSE, Bars, DataWarning
from trainingdata.corporate_actions import CorporateAction
from trainingdata.delistings import BarAbsence
from trainingdata.instants import DAY, format_utc, new_york_date
from trainingdata.instruments import is_crypto
from trainingdata.market import Market
from trainingdata.source import Adjustment
from trainingdata.splits import count_verifiable_splits
from trainingdata.universe import UniverseSettings

STRATEGY_BY_PARAMETER = {"target_volatility": "vol_target", "position": "fixed_fraction"}
FULLY_INVESTED_SHARE = 0.95  # share of capital; below it a remark explains buy and hold
MIN_SURVIVORSHIP_DURATION = 365 * DAY  # shortest run with a survivorship remark
MAX_SYMBOLS_NAMED = 8  # symbols that a remark names
MARGIN_EVENT_TEXTS = {
    "margin_calls": ("margin call", "margin calls"),
    "freezes": ("freeze of 90 days", "freezes of 90 days"),
}


def data_warning_remarks(data_warnings: Iterable[DataWarning]) -> list[str]:
    """Return the data warnings of a run's bars, one sentence each."""
    return [f"In doubt: {doubt}" for doubt in data_warnings]


def delisting_remarks(
    run: Run, market: Market, profits: Mapping[str, float], *, is_universe_chosen: bool = False
) -> list[str]:
    """Report the profit of delisted symbols, survivorship bias, and symbols without final bars.

    profits: profit by symbol, and of `interest` and `other`, USD.
    is_universe_chosen: true if a universe rule selects among the symbols.
    """
    bars = market.bars
    notes = []
    if ended := sorted({each.symbol for each in market.booked_delistings}):
        total = sum(profits.values())
        own = sum(profits[symbol] for symbol in ended)
        booked = sum(each.usd for each in run.bookings if each.kind == DELISTED)
        notes.append(
            f"{format_count(len(ended), 'symbol')} delisted within the run"
            f" ({_format_symbols(ended)}): profit"
            f" {format_usd(own, sign=True)} of {format_usd(total, sign=True)}, of which payouts"
            f" {format_usd(booked, sign=True)}."
        )
    notes += [
        f"{each.symbol} is paid out at its last price"
        f" ({format_rounded_price(each.unconfirmed_price, 2)}), which no later bar confirms."
        for each in market.booked_delistings
        if each.unconfirmed_price
    ]
    notes += [
        f"{each.symbol} traded again at {format_utc(each.booked_at)}, before its delisting was"
        " booked; its position is kept."
        for each in market.cancelled_delistings
    ]
    long = bool(bars.last_instant - bars.times[market.start_row] >= MIN_SURVIVORSHIP_DURATION)
    if (long or is_universe_chosen) and bars.provenances and (~bars.crypto).sum() > 1 and not ended:
        notes.append(
            "No symbol is delisted within the run: survivorship bias flatters every strategy that"
            " holds stocks."
        )
    absent = (
        BarAbsence.from_bars(bars).missed_sessions_at_end > 0
    ) & ~market.delisting_rules.delisted_mask(bars)
    if missing := [symbol for symbol, is_ in zip(bars.symbols, absent, strict=True) if is_]:
        notes.append(
            "Without bars at the end, valued at the last price, not traded:"
            f" {_format_symbols(missing)}."
        )
    return notes


def _format_symbols(symbols: Sequence[str]) -> str:
    more = (
        f" and {len(symbols) - MAX_SYMBOLS_NAMED} more" if len(symbols) > MAX_SYMBOLS_NAMED else ""
    )
    return ", ".join(symbols[:MAX_SYMBOLS_NAMED]) + more


def describe_price_adjustment(
    adjustment: Adjustment,
    bars: Bars,
    data_warnings: Iterable[DataWarning],
    corporate_actions: Sequence[CorporateAction],
) -> str:
    """Return a text on how prices are adjusted, and whether that was verified.

    adjustment: configured adjustment of prices.
    bars: bars of the run.
    data_warnings: data warnings of the run.
    corporate_actions: dividends and splits of the actions file.
    """
    if adjustment == "raw":
        return "raw"
    if not bars.provenances:
        return "synthetic, without splits"
    if bars.crypto.all():
        return "unadjusted: crypto pairs have no splits"
    checked = count_verifiable_splits(bars, corporate_actions)
    splits = "configured as split-adjusted (not checked: data.actions lists no split)"
    if any(doubt.kind == "split" for doubt in data_warnings):
        splits = "not adjusted for every split"
    elif checked:
        splits = f"adjusted for {format_count(checked, 'split')} that data.actions lists"
    dividends = "; configured as dividend-adjusted (not checked)" if adjustment == "all" else ""
    return splits + dividends


def protection_remarks(run: Run) -> list[str]:
    """Report the sessions in which a bar began while a position had no protective order."""
    if not (run.protective_orders or run.unprotected_sessions):
        return []
    named = [f"{symbol} {date}" for date, symbol in sorted(run.unprotected_sessions)]
    where = f" ({_format_symbols(named)})" if named else ""
    return [f"Positions without a protective order: {format_count(len(named), 'session')}{where}."]


def baseline_remarks(
    protect: ProtectionSettings, watch: WatchSettings, guards: DrawdownTiers
) -> list[str]:
    """Report that the lead over baselines includes settings that only the run has."""
    if not (protect.is_on or watch.limits or guards.tiers):
        return []
    return [
        "Baselines run without protective orders, watch and drawdown tiers: a difference from them"
        " includes the effect of these settings."
    ]


def daily_bar_remarks(bars: Bars, limits: Limits) -> list[str]:
    """Report that with daily bars the overnight limit applies to all stock positions.

    No bar ends shortly before the close, so positions cannot be reduced to that limit for the
    night.
    """
    if not bars.timeframe.is_daily or bars.crypto.all():
        return []
    auction = "closing" if bars.timeframe.fills_at_close else "opening"
    return [
        f"Decisions are made once a day and filled in the {auction} auction, so every position"
        " is held overnight. Stocks are limited to"
        f" {format_number(limits.overnight_stock_ceiling)}× equity;"
        f" the intraday limit of {format_number(limits.intraday_leverage)}× never applies."
    ]


def uncalibrated_remarks(forecaster: str, *, calibrated: bool) -> list[str]:
    """Report that the forecasts are not calibrated, unless they are.

    forecaster: name of the forecaster; for a forecast file it tells whether the file is calibrated.
    calibrated: true if the run itself calibrates the forecasts.
    """
    if calibrated or forecaster == NO_FORECAST or is_calibrated(forecaster):
        return []
    return ["The forecasts are raw: not calibrated on realised returns."]


def unused_forecast_file_remarks(
    forecaster: ForecasterSettings, premium_share: float | None
) -> list[str]:
    """State the history that calibration needs if no position rests on a forecast file.

    premium_share: share of the mean position that the assumed risk premium explains.
    """
    if forecaster.kind != "file" or not forecaster.calibrated or premium_share not in (None, 1.0):
        return []
    return [
        "The forecast file has no effect on positions: calibration uses the median of step h only"
        f" after {MIN_REGRESSION_INSTANTS}·h forecasts with known outcomes before a Friday"
        f" (step 1: {MIN_REGRESSION_INSTANTS}, step {HORIZON}:"
        f" {MIN_REGRESSION_INSTANTS * HORIZON}), and only as far as these confirm it. It reads the"
        f" last {forecaster.calibration.window:,} bars: add forecasts from before the start."
    ]


def hindsight_remarks(sizing: SizingSettings, kind: str, forecaster: str) -> list[str]:
    """Report that forecasts in hindsight earn nothing, if sizing depends on what they have earned.

    kind: kind of the forecaster in the settings.
    forecaster: name of the forecaster.
    """
    if sizing.earned is not True or not (kind == "file" or has_look_ahead(forecaster)):
        return []
    return [
        "sizing.earned: forecasts that may have been made in hindsight earn nothing, so positions"
        " rest on the assumed premium alone."
    ]


def sample_size_remarks(trades: int, days: int) -> list[str]:
    """Report that a run has too few days or trades for annual figures."""
    if allows_annual_figures(trades, days):
        return []
    few = [format_count(trades, "fill")] if trades < MIN_FILLS_FOR_ANNUAL_FIGURES else []
    few += [format_count(days, "day")] if days < MIN_DAYS_FOR_ANNUAL_FIGURES else []
    return [f"Small sample ({' and '.join(few)}): {NO_ANNUAL_FIGURES_NOTE}."]


def cost_remarks(profit: float, costs: float) -> list[str]:
    """Report costs that exceed the gross profit, or that add to a loss.

    profit: profit after costs, USD.
    costs: total costs, USD.
    """
    # To the cent, as the report's tables add up.
    paid = to_cents(costs)
    gross = to_cents(profit) + paid
    if paid <= 0 or paid <= gross:
        return []
    if gross < 0:
        return [f"Loss before costs: {format_usd(-gross)}; costs add {format_usd(paid)}."]
    return [f"Costs of {format_usd(paid)} exceed the profit before costs, {format_usd(gross)}."]


def fee_remarks(run: Run, fees: FeeSchedule) -> list[str]:
    """Name the fee tables that the run used but that were not verified."""
    stocks = [fill.at for fill in run.fills if not is_crypto(fill.symbol)]
    days = new_york_date(np.array(stocks, dtype="datetime64[ns]"))
    tables = fees.unverified_stock_tables(days.min(), days.max()) if len(days) else []
    if fees.has_unverified_crypto_tier and len(stocks) < len(run.fills):
        tables.append("crypto_tiers")
    if not tables:
        return []
    names = ", ".join(f"fees.{name}" for name in tables)
    return [f"Fee rates are unverified ({names}): compare them with the broker's fee table."]


def unused_sizing_remarks(sizing: SizingSettings) -> list[str]:
    """Report sizing parameters that are set but not used by the chosen strategy."""
    usual = SizingSettings()
    notes = []
    for name, owner in STRATEGY_BY_PARAMETER.items():
        value = getattr(sizing, name)
        if value != getattr(usual, name) and sizing.strategy_label != owner:
            notes.append(
                f"sizing.{name}={value:g} has no effect on {sizing.strategy_label}; it only"
                " applies to"
                f" sizing.strategy={owner}."
            )
    return notes


def short_lookback_remarks(sizing: SizingSettings) -> list[str]:
    """Warn of whole-number arguments of a custom strategy that exceed its price history.

    A slice beyond the history has fewer bars than asked for, without an error. A number above
    `MAX_LOOKBACK` cannot be a number of bars.
    """
    if not is_plugin(sizing.strategy):
        return []
    return [
        f"sizing.arguments.{name}={value} exceeds sizing.lookback={sizing.lookback}: if it counts"
        f" bars, the strategy saw fewer; set sizing.lookback={value}."
        for name, value in sizing.arguments.items()
        if type(value) is int and sizing.lookback < value <= MAX_LOOKBACK
    ]


def buy_and_hold_remarks(run: Run, bars: Bars, capital: float) -> list[str]:
    """Explain why buy and hold invested less than the capital, if it did.

    run: buy-and-hold run over these bars.
    capital: starting capital, USD.
    """
    spent = sum(max(float(fill.qty), 0.0) * fill.price for fill in run.fills)
    if spent >= FULLY_INVESTED_SHARE * capital or bars.crypto.all():
        return []
    part = capital / len(bars.symbols)
    bought = {fill.symbol for fill in run.fills}
    dear: list[str] = []
    others: list[str] = []
    for s, item in enumerate(bars.instruments):
        if item.symbol in bought:
            continue
        closes = bars.bars_of_symbol(s)[1][:, CLOSE]
        costs_more = len(closes) > 0 and closes[0] * float(item.qty_increment) > part
        (dear if costs_more else others).append(item.symbol)
    text = (
        f"Buy and hold invests {format_percent(spent / capital, 0)} of the capital: it buys whole"
        f" shares for {format_usd(part)} per symbol"
    )
    text += f"; one share of {_format_symbols(dear)} costs more" if dear else ""
    text += f"; orders in {_format_symbols(others)} were not filled" if others else ""
    return [f"{text}."]


def live_account_remarks(run: Run, other_holdings: Sequence[str]) -> list[str]:
    """Report net deposits of a live account, and positions that do not belong to the run.

    other_holdings: symbols with such a position at the end.
    """
    notes = []
    paid_in = sum(booking.usd for booking in run.bookings if booking.kind == "transfer")
    if paid_in:
        notes.append(
            f"Net deposits of {format_number(paid_in, sign=True)} USD are excluded from equity,"
            " returns"
            " and exposure."
        )
    if other_holdings:
        notes.append(
            f"The account also holds {', '.join(other_holdings)}: they count as cash, and their"
            " price moves as financing."
        )
    return notes


def same_trades_remarks(run: Run, baseline: Run) -> list[str]:
    """Report that the no-forecast baseline made the same trades as the run, if it did."""
    # Caps that always bind hide the forecast; equal trades are the only sign of it.
    if _fill_quantities(run) == _fill_quantities(baseline):
        return ["The no-forecast baseline makes the same trades: the forecast has no effect."]
    return []


def universe_remarks(
    settings: UniverseSettings, market: Market, in_universe: Mask, adjustment: Adjustment
) -> list[str]:
    """Report the size and turnover of a universe, and the limitations of its rules.

    in_universe: [T, S] true if a symbol is in the universe at an instant of the run.
    """
    if settings.is_unrestricted:
        return []
    bars = market.bars
    rule = settings.build_universe()
    _, first = np.unique(rule.renewal_days(market.run_bars.times), return_index=True)
    held = in_universe[first]
    counts = np.count_nonzero(in_universe, axis=1)
    notes = [
        f"Universe: {settings}. {counts.min():,} to {counts.max():,} of {len(bars.symbols):,}"
        f" symbols may be held, {format_number(counts.mean(), 1)} on average; at {len(first) - 1:,}"
        f" renewals {np.count_nonzero(held[1:] > held[:-1]):,} joined and"
        f" {np.count_nonzero(held[1:] < held[:-1]):,} left."
    ]
    if settings.ranks_by_growth:
        notes[0] = notes[0][:-1] + f", before the {settings.keep} best are chosen at each decision."
    if settings.min_price and adjustment != "raw":
        notes.append(
            "universe.min_price is compared with prices adjusted for later splits (look-ahead);"
            " use data.adjustment=raw."
        )
    listed = set() if rule.memberships is None else set(rule.memberships.symbols)
    if missing := listed.difference(bars.symbols):
        notes.append(
            f"universe.members: {len(missing):,} of the"
            f" {format_count(len(listed), 'listed symbol')} have no bars and cannot be"
            " held."
        )
    return notes


def undecided_symbol_remarks(run: Run, symbols: Sequence[str]) -> list[str]:
    """List the symbols for which the run never made a decision."""
    undecided = sorted(set(symbols).difference(run.decision_frame()["symbol"]))
    return [f"Never traded, no forecast: {', '.join(undecided)}."] if undecided else []


def broker_event_remarks(run: Run) -> list[str]:
    """Report margin calls, account freezes, and orders that were not filled completely."""
    notes = [
        f"Broker intervention: {format_count(run.margin_event_counts[name], *words)}."
        for name, words in MARGIN_EVENT_TEXTS.items()
        if run.margin_event_counts.get(name)
    ]
    short = run.count_incomplete_orders()
    if short:
        orders = len(run.decision_log.orders)
        count = f"{short:,} of {format_count(orders, 'order')} of decisions"
        why = "too little volume, no bar, or too little buying power or position"
        notes.append(f"{count} filled partly or not: {why}.")
    return notes


def small_order_remarks(run: Run, size_limits: OrderSizeLimits) -> list[str]:
    """Report the number of crypto orders that were not sent because they were below a minimum."""
    binding = run.decision_frame()["binding"].value_counts()
    small, dust = (
        sum(count for text, count in binding.items() if name in str(text).split("+"))
        for name in NO_ORDER_REASONS
    )
    notes = []
    if small:
        notes.append(
            f"{format_count(small, 'crypto order')} not sent: below"
            f" orders.min_crypto_value ${size_limits.min_crypto_value:g} plus orders.price_margin"
            f" {format_percent(size_limits.price_margin)}."
        )
    if dust:
        notes.append(
            f"{format_count(dust, 'crypto sale')} not sent: position below"
            f" orders.crypto_dust ${size_limits.crypto_dust:g}."
        )
    return notes


def position_limit_remarks(run: Run, max_positions: int | None) -> list[str]:
    """Report the number of decisions at which a limit on the number of positions binds.

    max_positions: maximum number of positions; None: no limit.
    """
    if max_positions is None:
        return []
    frame = run.decision_frame()
    bound = frame.loc[frame["binding"].str.contains("max_positions"), "at"].nunique()
    most = format_count(max_positions, "position")
    return [f"At most {most}: at {format_count(bound, 'decision')} the strategy wanted more."]


def sizing_failure_remarks(run: Run) -> list[str]:
    """Report the number of instants at which sizing failed."""
    failed = run.decision_log.failure_count
    if not failed:
        return []
    return [f"Sizing failed at {format_count(failed, 'instant')}; see the log for the reasons."]


def no_trade_remarks(
    run: Run, strategy: str, size_limits: OrderSizeLimits = DEFAULT_SIZE_LIMITS
) -> list[str]:
    """Explain why a run never traded, for example by the largest expected return and its cost.

    strategy: name of the strategy; for a plugin the largest requested change of weight is reported
        instead.
    size_limits: minimum order values.
    """
    if run.fills:
        return []
    choices = [choice for decision in run.decisions for choice in decision.choices]
    forecast = [choice for choice in choices if np.isfinite(choice.sigma)]
    if not forecast:
        return ["No trades: no symbol had a forecast."]
    if small := _small_account_remark(run, size_limits):
        return [small]
    if is_plugin(strategy):
        best = max(choices, key=_largest_requested_change)
        change = (
            f"the largest weight change that {strategy} requested,"
            f" {_largest_requested_change(best):.2g} of"
        )
        return [f"No trades: {change} equity ({best.symbol}), led to no order."]
    best = max(forecast, key=lambda choice: _absolute_expected_return(choice) - choice.unit_cost)
    edge = f"{format_basis_points(_absolute_expected_return(best))} ({best.symbol})"
    bound = f"; limits: {best.bound_by}" if best.binding_shadow_prices else ""
    return [
        (
            f"No trades: the largest edge was {edge}, against a cost of"
            f" {format_basis_points(best.unit_cost)}{bound}."
        )
    ]


def _small_account_remark(run: Run, terms: OrderSizeLimits) -> str:
    """Return a remark that the account is too small for the minimum order of any target.

    The minimum order is one share, or `orders.min_crypto_value` plus its margin. The text is empty
    if the account can afford the minimum order of at least one target.
    """
    coin = float(terms.min_values_when_sized(np.array([True]))[0])
    wanted = [
        (
            choice,
            abs(choice.target_weight) * decision.equity,
            coin if is_crypto(choice.symbol) else price,
        )
        for decision in run.decisions
        for choice in decision.choices
        if abs(choice.target_weight) > 0 and (price := choice.price) > 0
    ]
    if any(amount >= least for _, amount, least in wanted):
        return ""
    if not wanted:
        return _small_crypto_order_remark(run, coin)
    best, most, least = max(wanted, key=lambda each: each[1] / each[2])
    equity = most / abs(best.target_weight)
    capital = f"capital={math.ceil(least / abs(best.target_weight))}"
    coins = is_crypto(best.symbol)
    what = "the minimum crypto order" if coins else "one share"
    cure = f"set at least {capital}" if coins else f"set about {capital} to buy one"
    return (
        f"No trades: the account is too small. Of {format_usd(to_cents(equity))},"
        f" {format_usd(to_cents(most))}"
        f" is the target of {best.symbol}, but {what} costs {format_usd(to_cents(least))}; {cure}."
    )


def _small_crypto_order_remark(run: Run, least: float) -> str:
    """Return a remark that all crypto orders were below the minimum value.

    The text is empty if none was below it.

    least: minimum value of a crypto order, USD.
    """
    refused = [
        (decision.equity, choice.symbol)
        for decision in run.decisions
        for choice in decision.choices
        if NO_ORDER_REASONS[0] in choice.binding_shadow_prices
    ]
    if not refused:
        return ""
    equity, symbol = max(refused)
    return (
        f"No trades: the account is too small. Of {format_usd(to_cents(equity))}, every order of"
        f" {symbol} was below the minimum crypto order, {format_usd(to_cents(least))}; raise"
        " capital."
    )


def _absolute_expected_return(choice: Choice) -> float:
    """Return the absolute expected return of a target over the forecast periods that explain it."""
    return abs(choice.rationale.period_premium + choice.rationale.forecast)


def _largest_requested_change(choice: Choice) -> float:
    """Return the largest change of weight that a strategy requested, before or after limits."""
    return float(
        np.nanmax(
            np.abs(
                [0.0, choice.kelly - choice.held_weight, choice.target_weight - choice.held_weight]
            )
        )
    )


def _fill_quantities(run: Run) -> list[tuple[str, Decimal]]:
    return [(fill.client_order_id, fill.qty) for fill in run.fills]
