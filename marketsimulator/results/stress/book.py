"""The book that is put under stress: an account, and the bars that are known of what it holds.

A run's is what its folder says was held, marked by the bars that the run was made of. A venue's is
what the venue says; it is read, and left as it is.
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

from execution.alpaca.broker import AlpacaBroker
from execution.alpaca.connection import VenueConnection
from execution.alpaca.fields import PositionEntry
from execution.alpaca.holdings import parse_positions
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
from foundation.formatting import usd
from marketsimulator.account.timeline import IMPACT_VOLATILITY_BARS
from marketsimulator.results.run_folder import CONFIG_FILE, RunFolder
from marketsimulator.settings import BacktestSettings
from trainingdata.bar_files import find_files
from trainingdata.bars import FIELDS, NO_INSTANTS, VOLUME, Bars, build_panel, last_closes_by_symbol
from trainingdata.confirmation import drop_unconfirmed, restore_confirmed
from trainingdata.feed.endpoint import ApiKeys, BrokerSettings
from trainingdata.feed.fields import parse_objects
from trainingdata.instants import utc_text
from trainingdata.instruments import Instrument, instrument

# Groups of settings that a book is marked and settled by, and of which a word may change a run's.
OVERRIDABLE_GROUPS = ("data", "costs", "fees", "margin", "fills")
_KEPT = ("symbols", "increments", "timeframe", "fill", *OVERRIDABLE_GROUPS)
_TOLERANCE = 0.01  # USD by which the bars may value a book otherwise than the run did
_OWN_BARS = "name the bars that the run was made of, data.dir=[DIR]"


@dataclass(frozen=True, eq=False, slots=True)
class StressedBook:
    """An account, and all that there is of its S symbols.

    account: its positions and their marks.
    source: whose it is, in a few words.
    short_proceeds: USD that open shorts were sold for, by symbol.
    bars: of the symbols, for days that have a name.
    known: of them what was known at the instant, as it was seen then.
    option_risk: USD that open options can lose at most from what they are valued at.
    notes: what a reader should know about it.
    """

    account: AccountSnapshot
    source: str
    short_proceeds: Mapping[str, float]
    bars: Bars
    known: Bars
    option_risk: float = 0.0
    notes: tuple[str, ...] = ()

    @property
    def symbols(self) -> tuple[str, ...]:
        """[S] names."""
        return self.known.symbols

    @property
    def crypto(self) -> Mask:
        """[S] which are coins."""
        return self.known.crypto

    @property
    def quantities(self) -> Array:
        """[S] signed."""
        return np.array([float(self.account.positions[symbol]) for symbol in self.symbols])

    @property
    def marks(self) -> Array:
        """[S] USD."""
        return np.array([self.account.prices[symbol] for symbol in self.symbols])

    @property
    def values(self) -> Array:
        """[S] USD at the marks, signed."""
        return np.asarray(self.quantities * self.marks)

    @property
    def equity(self) -> float:
        """USD."""
        return self.account.cash + float(self.values.sum())

    @property
    def volumes(self) -> Array:
        """[S] that recent bars usually have; 0 where there are none."""
        recent_bars = (self.recent_bars(s)[1][:, VOLUME] for s in range(len(self.symbols)))
        return np.array([np.median(volumes) if len(volumes) else 0.0 for volumes in recent_bars])

    def recent_bars(self, s: int) -> tuple[Instants, Array]:
        """The last bars of symbol number `s`, by which impact and volume are judged."""
        times, values = self.known.real_bars(s)
        return times[-IMPACT_VOLATILITY_BARS:], values[-IMPACT_VOLATILITY_BARS:]


def load_run_settings(run: RunFolder, changes: DictConfig) -> BacktestSettings:
    """The settings that a run's book is marked and settled by.

    changes: of the run's own, by group.
    """
    run.summary()  # that says whether it is a backtest's
    content = run.settings()
    if not content:
        raise DataError(f"{run.path / CONFIG_FILE} does not exist; a backtest leaves one")
    kept = OmegaConf.create(_finite({key: content[key] for key in _KEPT if key in content}))
    kept.merge_with(changes)
    try:
        return BacktestSettings.from_config(kept)
    except InputError as error:
        raise InputError(f"{run.path / CONFIG_FILE}: {error}") from None


def _finite(value: Any) -> Any:
    """The value without its infinite parts: no user wrote them, they are the defaults."""
    if isinstance(value, dict):
        return {key: _finite(part) for key, part in value.items() if part != float("inf")}
    return [_finite(part) for part in value] if isinstance(value, list) else value


def load_run_book(run: RunFolder, at: str, settings: BacktestSettings) -> StressedBook:
    """The book of a backtest at an instant, as `RunFolder.book_at` takes it."""
    held = run.book_at(at)
    files = settings.files_timeframe
    bars = settings.with_increments(settings.data.bars(sorted(held.positions), None, None, files))
    settings.require_volume_units(bars)
    known = bars.until(held.at)
    when = utc_text(held.at)
    marks = last_closes_by_symbol(known) if len(known.times) else {}
    for symbol in held.positions:
        if not marks.get(symbol, np.nan) > 0:
            raise InputError(
                f"data.dir: {bars.source} has no bar of {symbol} by {when}; {_OWN_BARS}"
            )
    account = AccountSnapshot(held.cash, held.positions, marks, held.at)
    if abs(account.equity - held.equity) > _TOLERANCE:
        raise InputError(
            f"data.dir: {bars.source} values the book of {when} at {account.equity:,.2f} USD, and"
            f" the run has {held.equity:,.2f}; {_OWN_BARS}"
        )
    market = settings.data.market(bars)
    notes = []
    if held.other_holdings:
        names = ", ".join(held.other_holdings)
        notes.append(f"The account held {names} as well: cash here, and nothing moves it.")
    return StressedBook(
        account,
        f"{run.path} at {when}",
        held.short_proceeds,
        restore_confirmed(market.view()),
        market.view(len(known.times)),
        notes=tuple(notes),
    )


def load_account_book(
    broker: BrokerSettings, keys: ApiKeys, settings: BacktestSettings
) -> StressedBook:
    """The book that an account at the venue holds now.

    settings: whose `data.dir` names bars of the symbols; without it there are none.
    """
    account = AlpacaBroker(broker, keys).account()
    connection = VenueConnection(broker, keys)
    with connection.translate_errors("the positions"):
        risk = option_risk(parse_objects(connection.client.get_all_positions()))
    held = sorted(symbol for symbol, quantity in account.positions.items() if quantity)
    if not held:
        raise InputError("account: no stock or coin is held that could be put under stress")
    values = {s: float(account.positions[s]) * account.prices[s] for s in held}
    shorts = {symbol: -value for symbol, value in values.items() if value < 0}
    # The venue says what all shorts together were sold for: each has its share by what it is worth.
    share = account.short_proceeds / sum(shorts.values()) if shorts else 0.0
    bars = _bars(settings, [instrument(symbol) for symbol in held], account.as_of)
    notes = []
    if risk:
        notes.append(f"Open options count as lost in every scenario: {usd(to_cents(risk))}.")
    if account.open_orders:
        notes.append("What the account's open orders would still trade is left out.")
    return StressedBook(
        account,
        f"{'paper account' if broker.paper else 'account'} at {utc_text(account.as_of)}",
        {symbol: round(worth * share, 6) for symbol, worth in shorts.items()},
        bars,
        bars,
        risk,
        tuple(notes),
    )


def _bars(settings: BacktestSettings, held: Sequence[Instrument], now: np.datetime64) -> Bars:
    """The bars of files that were known now, without any of a symbol that has no file."""
    real: dict[str, tuple[Instants, Array]] = {}
    if settings.data.dir:
        files = find_files([Path(folder).expanduser() for folder in settings.data.dir], None)
        if symbols := [item.symbol for item in held if item.symbol in files]:
            known = settings.data.bars_up_to(symbols, now, settings.named_timeframe)
            settings.require_volume_units(known)
            bars = restore_confirmed(drop_unconfirmed(settings.data.market(known).view()))
            real = {symbol: bars.real_bars(s) for s, symbol in enumerate(bars.symbols)}
    nothing = (NO_INSTANTS, np.empty((0, len(FIELDS))))
    tables = [(item, *real.get(item.symbol, nothing)) for item in held]
    here = np.array([now], dtype="datetime64[ns]")
    return build_panel(tables, "files", settings.named_timeframe, here)


def option_risk(positions: Sequence[Mapping[str, Any]]) -> float:
    """USD that the options among positions can lose at most by their expiry.

    It is what they count in an account's cash, and beyond it all that they can still cost.
    """
    held: dict[OptionContract, Decimal] = defaultdict(Decimal)
    for row in positions:
        name = PositionEntry.symbol.read(row)
        if is_option(name):
            held[parse_occ_symbol(name)] += PositionEntry.qty.read(row)
    loss = max_expiry_loss(held)
    if loss is None:
        raise InputError(
            "account: calls were sold without as many bought: what options can lose has no bound"
        )
    holdings = parse_positions(positions)
    counted_in_cash = (
        min(holdings.short_option_value, holdings.options) - holdings.short_option_value
    )
    return max(counted_in_cash + float(loss), 0.0)
