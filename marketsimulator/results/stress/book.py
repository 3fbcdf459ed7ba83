"""The account that a stress test is applied to, with the bars of its symbols.

The account of a backtest is read from its folder and marked at the closes of its bars. A live
account is read from the venue.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import DictConfig, OmegaConf

from execution.alpaca.broker import AlpacaConnection
from execution.alpaca.fields import PositionEntry
from execution.alpaca.holdings import parse_positions
from execution.brokers import open_reading_gateway
from execution.orders.account_snapshot import AccountSnapshot
from execution.orders.option_orders import (
    OptionContract,
    is_option,
    max_expiry_loss,
    parse_occ_symbol,
)
from foundation.arrays import Array, Instants, Mask
from foundation.decimals import to_cents
from foundation.errors import DataError, InputError
from foundation.formatting import format_usd
from marketsimulator.account.timeline import IMPACT_VOLATILITY_BARS
from marketsimulator.results.run_folder import CONFIG_FILE, RunFolder
from marketsimulator.results.stress.snapshot import read_snapshot
from marketsimulator.settings import BacktestSettings
from trainingdata.bar_files import find_bar_files
from trainingdata.bars import (
    NO_INSTANTS,
    OHLCV_FIELDS,
    VOLUME,
    Bars,
    build_panel,
    last_closes_by_symbol,
)
from trainingdata.confirmation import drop_unconfirmed_bars, restore_confirmed_bars
from trainingdata.feed.endpoint import ApiKeys, BrokerSettings
from trainingdata.feed.fields import parse_object_list
from trainingdata.instants import format_utc
from trainingdata.instruments import Instrument, instrument

# Groups of settings that determine marks and settlement; overrides may change those of a run.
OVERRIDABLE_SETTING_GROUPS = ("data", "costs", "fees", "margin", "fills")
_KEPT_SETTINGS = ("symbols", "increments", "timeframe", "fill", *OVERRIDABLE_SETTING_GROUPS)
_VALUE_TOLERANCE_USD = 0.01  # maximum difference between the values by bars and by the run
_RUN_BARS_HINT = "give the bars that the run used, data.dir=[DIR]"


@dataclass(frozen=True, eq=False, slots=True)
class StressedBook:
    """An account to be stressed, with the bars of its S symbols.

    account: cash, positions and their marks.
    description: short description of the account.
    short_proceeds: USD from the sale of open shorts, by symbol.
    bars: all bars of the symbols, for scenarios of a historical day.
    past_bars: bars that were known at the time of the account.
    max_option_loss: maximum loss of open options from their present value, USD.
    notes: remarks for the report.
    """

    account: AccountSnapshot
    description: str
    short_proceeds: Mapping[str, float]
    bars: Bars
    past_bars: Bars
    max_option_loss: float = 0.0
    notes: tuple[str, ...] = ()

    @property
    def symbols(self) -> tuple[str, ...]:
        """Return the symbols with a position, [S]."""
        return self.past_bars.symbols

    @property
    def is_crypto(self) -> Mask:
        """Return whether each symbol is crypto, [S]."""
        return self.past_bars.crypto

    @property
    def quantities(self) -> Array:
        """Return the signed positions, shares or coins, [S]."""
        return np.array([float(self.account.positions[symbol]) for symbol in self.symbols])

    @property
    def marks(self) -> Array:
        """Return the mark of each symbol, USD, [S]."""
        return np.array([self.account.prices[symbol] for symbol in self.symbols])

    @property
    def position_values(self) -> Array:
        """Return the signed value of each position at its mark, USD, [S]."""
        return np.asarray(self.quantities * self.marks)

    @property
    def equity(self) -> float:
        """Return the equity of the account at the marks, USD."""
        return self.account.cash + float(self.position_values.sum())

    @property
    def volumes(self) -> Array:
        """Return the median volume of each symbol's recent bars, [S]; 0 without bars."""
        recent_bars = (self.recent_bars(s)[1][:, VOLUME] for s in range(len(self.symbols)))
        return np.array([np.median(volumes) if len(volumes) else 0.0 for volumes in recent_bars])

    def recent_bars(self, symbol_index: int) -> tuple[Instants, Array]:
        """Return the ends and values of a symbol's last bars, to estimate market impact and volume.

        symbol_index: index of the symbol.
        """
        times, values = self.past_bars.bars_of_symbol(symbol_index)
        return times[-IMPACT_VOLATILITY_BARS:], values[-IMPACT_VOLATILITY_BARS:]


def load_run_settings(run: RunFolder, overrides: DictConfig) -> BacktestSettings:
    """Load the settings of a run that determine how its positions are marked and settled.

    overrides: settings that replace those of the run, by group.
    Raises `DataError` if the folder has no settings.
    """
    run.read_summary()  # raises an error unless the run is a backtest
    content = run.read_settings()
    if not content:
        raise DataError(
            f"{run.path / CONFIG_FILE} does not exist; give the results folder of a"
            " backtest, which contains it"
        )
    kept = OmegaConf.create(
        _drop_infinite_values({key: content[key] for key in _KEPT_SETTINGS if key in content})
    )
    kept.merge_with(overrides)
    try:
        return BacktestSettings.from_config(kept)
    except InputError as error:
        raise InputError(f"{run.path / CONFIG_FILE}: {error}") from None


def _drop_infinite_values(value: Any) -> Any:
    """Remove infinite values from nested settings.

    They are defaults, not values set by the user, so they can be left out.
    """
    if isinstance(value, dict):
        return {
            key: _drop_infinite_values(part) for key, part in value.items() if part != float("inf")
        }
    return [_drop_infinite_values(part) for part in value] if isinstance(value, list) else value


def load_run_book(run: RunFolder, at: str, settings: BacktestSettings) -> StressedBook:
    """Load the account of a backtest at an instant.

    at: `end`, `worst` for the highest leverage, a New York date or a timestamp with a time zone.
    Raises `InputError` if the bars lack a symbol, or if the account's equity at their prices
    differs from the run's.
    """
    held = read_snapshot(run, at)
    files = settings.configured_timeframe
    bars = settings.with_quantity_increments(
        settings.data.load_panel(sorted(held.positions), None, None, files)
    )
    settings.require_volume_units(bars)
    known = bars.slice_until(held.instant)
    when = format_utc(held.instant)
    marks = last_closes_by_symbol(known) if len(known.times) else {}
    for symbol in held.positions:
        if not marks.get(symbol, np.nan) > 0:
            raise InputError(
                f"data.dir: {bars.source} has no bar of {symbol} up to {when}; {_RUN_BARS_HINT}"
            )
    account = AccountSnapshot(held.cash, held.positions, marks, held.instant)
    if abs(account.equity - held.equity) > _VALUE_TOLERANCE_USD:
        raise InputError(
            f"data.dir: equity at {when} is {account.equity:,.2f} USD with the prices of"
            f" {bars.source}, but {held.equity:,.2f} USD in the run; {_RUN_BARS_HINT}"
        )
    market = settings.data.build_market(bars)
    notes = []
    if held.other_holdings:
        names = ", ".join(held.other_holdings)
        notes.append(f"The account also held {names}: they count as cash and do not move.")
    return StressedBook(
        account,
        f"{run.path} at {when}",
        held.short_proceeds,
        restore_confirmed_bars(market.visible_bars()),
        market.visible_bars(len(known.times)),
        notes=tuple(notes),
    )


def load_account_book(
    broker: BrokerSettings, keys: ApiKeys, settings: BacktestSettings
) -> StressedBook:
    """Load the present account from the venue.

    settings: if `data.dir` is set, bars are loaded from there; otherwise there are no bars.
    Raises `InputError` if the account has no position in a stock or in crypto.
    """
    connection = AlpacaConnection(broker, keys)
    with open_reading_gateway(connection) as gateway:
        account = gateway.account()
    with connection.translate_errors("the positions"):
        risk = compute_max_option_loss(parse_object_list(connection.client.get_all_positions()))
    held = sorted(symbol for symbol, quantity in account.positions.items() if quantity)
    if not held:
        raise InputError(
            "account: no stock or crypto position is open, so there is nothing to stress; open one"
        )
    values = {s: float(account.positions[s]) * account.prices[s] for s in held}
    shorts = {symbol: -value for symbol, value in values.items() if value < 0}
    # The venue reports the proceeds of all shorts in total: they are split by present value.
    share = account.short_proceeds / sum(shorts.values()) if shorts else 0.0
    bars = _load_bars(settings, [instrument(symbol) for symbol in held], account.as_of)
    notes = []
    if risk:
        notes.append(
            "Open options are assumed to lose their maximum in every scenario:"
            f" {format_usd(to_cents(risk))}."
        )
    if account.open_orders:
        notes.append("Open orders are ignored: the test assumes that they do not fill.")
    return StressedBook(
        account,
        f"{'paper account' if broker.paper else 'account'} at {format_utc(account.as_of)}",
        {symbol: round(worth * share, 6) for symbol, worth in shorts.items()},
        bars,
        bars,
        risk,
        tuple(notes),
    )


def _load_bars(settings: BacktestSettings, held: Sequence[Instrument], now: np.datetime64) -> Bars:
    """Load those bars of the symbols that are known at `now`; symbols without a file have none."""
    real: dict[str, tuple[Instants, Array]] = {}
    if settings.data.dir:
        files = find_bar_files([Path(folder).expanduser() for folder in settings.data.dir], None)
        if symbols := [item.symbol for item in held if item.symbol in files]:
            known = settings.data.load_panel_up_to(symbols, now, settings.timeframe_or_hourly)
            settings.require_volume_units(known)
            bars = restore_confirmed_bars(
                drop_unconfirmed_bars(settings.data.build_market(known).visible_bars())
            )
            real = {symbol: bars.bars_of_symbol(s) for s, symbol in enumerate(bars.symbols)}
    nothing = (NO_INSTANTS, np.empty((0, len(OHLCV_FIELDS))))
    tables = [(item, *real.get(item.symbol, nothing)) for item in held]
    here = np.array([now], dtype="datetime64[ns]")
    return build_panel(tables, "files", settings.timeframe_or_hourly, here)


def compute_max_option_loss(positions: Sequence[Mapping[str, Any]]) -> float:
    """Return the maximum loss of the option positions up to their expiry, USD.

    It is the value at which the account counts the options, plus any liability beyond it.
    Raises `InputError` if the loss is unbounded.
    """
    held: dict[OptionContract, Decimal] = defaultdict(Decimal)
    for row in positions:
        name = PositionEntry.symbol.read(row)
        if is_option(name):
            held[parse_occ_symbol(name)] += PositionEntry.qty.read(row)
    loss = max_expiry_loss(held)
    if loss is None:
        raise InputError(
            "account: more calls are short than long, so the maximum loss is unbounded; close the"
            " uncovered calls"
        )
    holdings = parse_positions(positions)
    counted_in_cash = (
        min(holdings.short_option_value, holdings.long_option_value) - holdings.short_option_value
    )
    return max(counted_in_cash + float(loss), 0.0)
