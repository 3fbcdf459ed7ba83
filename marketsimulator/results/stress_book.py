"""The book that is put under stress: what is held at an instant, and the bars that are known of it.

A run's is what its folder says was held, marked by the bars that the run was made of. An account's
is what the venue says; the account is read, and left as it is.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import DictConfig, OmegaConf

from execution.alpaca.broker import AlpacaBroker
from execution.alpaca.connection import VenueConnection
from execution.alpaca.fields import Position
from execution.alpaca.holdings import holdings_of
from execution.option_orders import Contract, contract_of, is_option, largest_loss
from execution.run_folder import CONFIG, RunFolder
from foundation.arrays import Array, Instants, Mask
from foundation.cents import to_cents
from foundation.counts import counted
from foundation.errors import DataError, InputError
from foundation.figures import usd
from marketsimulator.account.timeline import IMPACT_BARS
from marketsimulator.settings import BacktestSettings
from trainingdata.bar_files import find_files
from trainingdata.bars import FIELDS, NO_INSTANTS, VOLUME, Bars, panel
from trainingdata.confirmation import confirmed
from trainingdata.feed.endpoint import BrokerSettings, Keys
from trainingdata.feed.fields import objects
from trainingdata.instants import utc_text
from trainingdata.instruments import Instrument, instrument

# Groups of settings that a book is marked and settled by, and of which a word may change a run's.
CHANGEABLE = ("data", "costs", "fees", "margin", "fills", "correlation")
_KEPT = ("symbols", "increments", "timeframe", "fill", *CHANGEABLE)
_TOLERANCE = 0.01  # USD by which the bars may value a book otherwise than the run did
_OWN_BARS = "name the bars that the run was made of, data.dir=[DIR]"


@dataclass(frozen=True, eq=False, slots=True)
class HeldBook:
    """Positions in S symbols, and cash, at an instant.

    at: the instant.
    source: whose book it is, in a few words.
    quantities: [S] signed, none 0.
    marks: [S] USD.
    cash: USD, below 0 where it is borrowed.
    proceeds: [S] USD that open shorts were sold for.
    bars: all that there are of the symbols, for days that have a name.
    known: of them what was known at the instant, as it was seen then.
    option_risk: USD that open options can lose at most from what they are valued at.
    notes: what a reader should know about it.
    """

    at: np.datetime64
    source: str
    quantities: Array
    marks: Array
    cash: float
    proceeds: Array
    bars: Bars
    known: Bars
    option_risk: float = 0.0
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("quantities", "marks", "proceeds"):
            if getattr(self, name).shape != (len(self.symbols),):
                raise ValueError(f"{name} must be [S], of {self.symbols}")
        if not ((self.marks > 0) & np.isfinite(self.marks)).all() or not self.quantities.all():
            raise ValueError("marks must be above 0, and no quantity 0")

    @property
    def symbols(self) -> tuple[str, ...]:
        """[S] names."""
        return self.known.symbols

    @property
    def crypto(self) -> Mask:
        """[S] which are coins."""
        return self.known.crypto

    @property
    def values(self) -> Array:
        """[S] USD at the marks, signed."""
        return np.asarray(self.quantities * self.marks)

    @property
    def equity(self) -> float:
        """USD."""
        return self.cash + float(self.values.sum())

    @property
    def leverage(self) -> float | None:
        """Gross over equity; none without equity."""
        return leverage_of(float(np.abs(self.values).sum()), self.equity)

    @property
    def volumes(self) -> Array:
        """[S] that recent bars usually have; 0 where there are none."""
        recent = (self.recent(s)[1][:, VOLUME] for s in range(len(self.symbols)))
        return np.array([np.median(volumes) if len(volumes) else 0.0 for volumes in recent])

    def recent(self, s: int) -> tuple[Instants, Array]:
        """The last bars of symbol number `s`, by which impact and volume are judged."""
        times, values = self.known.real_bars(s)
        return times[-IMPACT_BARS:], values[-IMPACT_BARS:]


def leverage_of(gross: float, equity: float) -> float | None:
    """Gross over equity; none without equity."""
    return gross / equity if equity > 0 else None


def run_settings(run: RunFolder, changes: DictConfig) -> BacktestSettings:
    """The settings that a run's book is marked and settled by.

    changes: of the run's own, by group.
    """
    run.summary()  # that says whether it is a backtest's
    content = run.settings()
    if not content:
        raise DataError(f"{run.path / CONFIG}: there is none; a backtest leaves one")
    data = content.get("data")
    if isinstance(data, dict) and "splits" in data:
        # Earlier runs say so whether they went on over a jump like a split.
        data["accept_jumps"] = data.pop("splits") == "note"
    kept = OmegaConf.create(_finite({key: content[key] for key in _KEPT if key in content}))
    kept.merge_with(changes)
    try:
        return BacktestSettings.of(kept)
    except InputError as error:
        raise InputError(f"{run.path / CONFIG}: {error}") from None


def _finite(value: Any) -> Any:
    """The value without its infinite parts: no user wrote them, they are the defaults."""
    if isinstance(value, dict):
        return {key: _finite(part) for key, part in value.items() if part != float("inf")}
    return [_finite(part) for part in value] if isinstance(value, list) else value


def run_book(run: RunFolder, at: str, settings: BacktestSettings) -> HeldBook:
    """The book of a backtest at an instant, as `RunFolder.book_at` takes it."""
    held = run.book_at(at)
    symbols = sorted(held.positions)
    files = settings.files_timeframe
    bars = settings.with_increments(settings.data.bars(symbols, None, None, files))
    known = bars.until(held.at)
    marks = known.last_closes() if len(known.times) else np.full(len(symbols), np.nan)
    when = utc_text(held.at)
    if np.isnan(marks).any():
        missing = symbols[int(np.argmax(np.isnan(marks)))]
        raise InputError(f"data.dir: {bars.source} has no bar of {missing} by {when}; {_OWN_BARS}")
    market = settings.data.market(bars)
    book = HeldBook(
        at=held.at,
        source=f"{run.path} at {when}",
        quantities=np.array([float(held.positions[symbol]) for symbol in symbols]),
        marks=marks,
        cash=held.cash,
        proceeds=np.array([held.proceeds.get(symbol, 0.0) for symbol in symbols]),
        bars=market.view(),
        known=market.view(len(known.times)),
        notes=_beside_notes(held.beside),
    )
    if abs(book.equity - held.equity) > _TOLERANCE:
        raise InputError(
            f"data.dir: {bars.source} values the book of {when} at {book.equity:,.2f} USD, and the"
            f" run has {held.equity:,.2f}; {_OWN_BARS}"
        )
    return book


def _beside_notes(beside: Sequence[str]) -> tuple[str, ...]:
    if not beside:
        return ()
    names = ", ".join(beside)
    return (f"The live account held {names} as well at its end: cash here, and nothing moves it.",)


def account_book(broker: BrokerSettings, keys: Keys, settings: BacktestSettings) -> HeldBook:
    """The book that an account at the venue holds now.

    settings: whose `data.dir` names bars of the symbols; without it there are none.
    """
    account = AlpacaBroker(broker, keys).account()
    connection = VenueConnection(broker, keys)
    with connection.translated_errors("the positions"):
        positions = objects(connection.client.get_all_positions())
        risk, options = option_risk(positions)
    held = sorted(symbol for symbol, quantity in account.positions.items() if quantity)
    if not held:
        where = "with options alone" if options else "nothing is held"
        raise InputError(f"account: {where}, so there is no position to put under stress")
    bars = _bars(settings, [instrument(symbol) for symbol in held], account.as_of)
    book = HeldBook(
        at=account.as_of,
        source=f"{'paper account' if broker.paper else 'account'} at {utc_text(account.as_of)}",
        quantities=np.array([float(account.positions[symbol]) for symbol in held]),
        marks=np.array([account.prices[symbol] for symbol in held]),
        cash=account.cash,
        proceeds=np.zeros(len(held)),
        bars=bars,
        known=bars,
        option_risk=risk,
    )
    notes = [options] if options else []
    if account.open_orders:
        count = counted(len(account.open_orders), "open order")
        notes.append(f"{count} of the account: what they would still trade is left out.")
    if not book.volumes.all():
        notes.append(
            "No bars say how much of each symbol trades, so nothing bounds a liquidation;"
            " data.dir=[DIR] names some."
        )
    shorts = np.maximum(-book.values, 0.0) * ~book.crypto
    # The venue says what all shorts together were sold for: each has its share by what it is worth.
    share = account.short_proceeds / shorts.sum() if shorts.any() else 0.0
    return replace(book, proceeds=np.rint(shorts * share * 1e6) / 1e6, notes=tuple(notes))


def _bars(settings: BacktestSettings, held: Sequence[Instrument], now: np.datetime64) -> Bars:
    """The bars of files that were known now, without any of a symbol that has no file."""
    real: dict[str, tuple[Instants, Array]] = {}
    if settings.data.dir:
        files = find_files([Path(folder).expanduser() for folder in settings.data.dir], None)
        if symbols := [item.symbol for item in held if item.symbol in files]:
            known = settings.data.bars_up_to(symbols, now, settings.named_timeframe)
            bars = confirmed(settings.data.market(known).view())
            real = {symbol: bars.real_bars(s) for s, symbol in enumerate(bars.symbols)}
    nothing = (NO_INSTANTS, np.empty((0, len(FIELDS))))
    tables = [(item, *real.get(item.symbol, nothing)) for item in held]
    here = np.array([now], dtype="datetime64[ns]")
    return panel(tables, "files", settings.named_timeframe, here)


def option_risk(positions: Sequence[Mapping[str, Any]]) -> tuple[float, str]:
    """USD that the options among positions can lose at most by their expiry, and that in words.

    It is what they count in an account's cash, and beyond it all that they can still cost.
    """
    held: dict[Contract, Decimal] = defaultdict(Decimal)
    for row in positions:
        name = Position.symbol.of(row)
        if is_option(name):
            held[contract_of(name)] += Position.qty.of(row)
    if not held:
        return 0.0, ""
    loss = largest_loss(held)
    if loss is None:
        roots = ", ".join(sorted({contract.root for contract in held}))
        raise InputError(
            f"account: of its options on {roots} calls were sold without as many bought: what they"
            " can lose has no bound"
        )
    holdings = holdings_of(positions)
    counted_in_cash = min(holdings.owed, holdings.options) - holdings.owed
    risk = max(counted_in_cash + float(loss), 0.0)
    return risk, (
        f"Open options count as lost: {usd(to_cents(risk))} is the most that they can lose by"
        " their expiry, in every scenario."
    )
