"""Recorded sessions of event contracts, from records of the best bids and asks.

A folder holds, for each series of events, two Parquet files:

    SERIES_top_of_book.parquet   timestamp (UTC), ticker, event, yes_bid, no_bid in cents
    SERIES_settlement.parquet    ticker, settled_yes_inferred (0 or 1)

Each market becomes one session. A row of the session shows the last quote at or before its instant.
Instants are whole multiples of the step since the epoch, from the market's first quote to the last
quote of any market of its event. A market whose price has become certain therefore lasts as long as
the event's other markets, and the length of a session is independent of its outcome. The YES ask is
100 less the NO bid. Quotes whose bid is not below their ask are skipped, because they last for
moments only. A settlement row follows the last instant.

Such files have no sizes and no trades. By assumption every level of the book holds
`ASSUMED_CONTRACTS_PER_LEVEL` contracts. If the bid falls by some ticks, as many levels have gone:
market sellers took the share `ASSUMED_TRADED_FRACTION` of their contracts, and the rest was
cancelled. Buyers at the ask are the mirror image. Without a move of the quote no trade is assumed,
so that resting orders do not fill in a quiet market.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
from pyarrow import ArrowException

from event_contracts.simulation.sessions import (
    ASK_SIZE,
    BID_SIZE,
    BOUGHT,
    ESTIMATE,
    SESSION_COLUMNS,
    SOLD,
    YES_ASK,
    YES_BID,
    mid_prices,
)
from foundation.arrays import Array, Index, Instants
from foundation.errors import DataError, InputError, to_one_line
from trainingdata.instants import parse_instant_column

log = logging.getLogger(__name__)

FIVE_MINUTES = np.timedelta64(5, "m")
CENTS_PER_DOLLAR = 100  # the tick of these files is a cent
ASSUMED_CONTRACTS_PER_LEVEL = 100
ASSUMED_TRADED_FRACTION = 0.5
_QUOTES_SUFFIX = "_top_of_book.parquet"
_SETTLEMENT_SUFFIX = "_settlement.parquet"


@dataclass(frozen=True, eq=False, slots=True)
class RecordedMarket:
    """The session of one recorded market.

    event: ticker of the market's event.
    market: ticker of the market.
    session: [T, F], the settlement row last.
    row_times: UTC, of the rows before settlement [T - 1].
    """

    event: str
    market: str
    session: Array = field(repr=False)
    row_times: Instants = field(repr=False)


def recorded_sessions(folder: Path | str, step: np.timedelta64 = FIVE_MINUTES) -> list[Array]:
    """Return the sessions [T, F] of all recorded markets, in the order of `recorded_markets`."""
    return [recorded.session for recorded in recorded_markets(folder, step)]


def recorded_markets(
    folder: Path | str, step: np.timedelta64 = FIVE_MINUTES
) -> list[RecordedMarket]:
    """Read all recorded markets of a folder, sorted by their event's first quote, then by ticker.

    Raises `InputError` for a missing folder or an invalid step, and `DataError` for files that
    cannot be read or have other contents.
    """
    if not step > np.timedelta64(0, "ns"):
        raise InputError(f"step: {step} must be above 0")
    place = Path(os.path.expanduser(folder))
    if not os.path.isdir(place):
        raise InputError(
            f"folder: {folder} is not a folder; give a folder with *{_QUOTES_SUFFIX} files"
        )
    markets = []
    listed: dict[str, str] = {}
    for quotes_file in sorted(place.glob(f"*{_QUOTES_SUFFIX}")):
        settlement = quotes_file.with_name(
            quotes_file.name.removesuffix(_QUOTES_SUFFIX) + _SETTLEMENT_SUFFIX
        )
        outcomes = _read_yes_payouts(settlement)
        for event, quotes in _iterate_event_quotes(quotes_file):
            for ticker in quotes["ticker"].unique():
                # In two events its session would count twice, in training and in evaluation.
                if listed.setdefault(str(ticker), event) != event:
                    raise DataError(
                        f"{quotes_file}: {ticker} is listed in two events,"
                        f" {listed[str(ticker)]} and {event}; keep the rows of one event"
                    )
            markets += _build_event_markets(event, quotes, outcomes, step)
    if not markets:
        raise InputError(f"folder: {place} contains no settled market in *{_QUOTES_SUFFIX} files")
    return markets


def list_event_tickers(
    markets: Sequence[RecordedMarket], reserved_count: int, setting_name: str
) -> list[str]:
    """Return the events of recorded markets, in the order of the markets.

    Raises `InputError` if there are no more than `reserved_count` events, because training and
    testing need at least one each.

    reserved_count: number of events reserved for one of the two.
    setting_name: settings key of `reserved_count`, for the message.
    """
    events = list(dict.fromkeys(market.event for market in markets))
    if reserved_count >= len(events):
        raise InputError(
            f"{setting_name}: {reserved_count} events, but {len(events)} are recorded; choose"
            " fewer, because training"
            " and testing need at least one each"
        )
    return events


def _read_yes_payouts(path: Path) -> dict[str, int]:
    """Read the payout of a YES contract, 0 or 1 USD, of each settled market, by ticker.

    Raises `DataError` for another value and for contradictory rows.
    """
    table = _read_parquet(path, ["ticker", "settled_yes_inferred"])
    outcomes: dict[str, int] = {}
    inferred = table["settled_yes_inferred"]
    settled = table.assign(paid=pd.to_numeric(inferred, errors="coerce"))[inferred.notna()]
    for ticker, word, paid in zip(
        settled["ticker"], settled["settled_yes_inferred"], settled["paid"], strict=True
    ):
        if paid not in (0, 1):
            raise DataError(f"{path}: {ticker}: settled_yes_inferred is {word}; expected 0 or 1")
        if outcomes.setdefault(str(ticker), int(paid)) != paid:
            raise DataError(
                f"{path}: {ticker}: settled_yes_inferred is 0 in one row and 1 in another"
            )
    return outcomes


def _iterate_event_quotes(path: Path) -> Iterator[tuple[str, pd.DataFrame]]:
    """Yield the ticker and the quotes of each event, in the order of the events' first quotes."""
    table = _read_parquet(path, ["timestamp", "ticker", "event", "yes_bid", "no_bid"])
    if table.empty:
        return
    bids = table[["yes_bid", "no_bid"]].apply(pd.to_numeric, errors="coerce").to_numpy(dtype=float)
    invalid = ~np.isin(bids, np.arange(CENTS_PER_DOLLAR + 1))
    if invalid.any():
        row, column = np.argwhere(invalid)[0]
        name = ("yes_bid", "no_bid")[column]
        raise DataError(
            f"{path}: row {row + 1}: {name} {table[name].iloc[row]} is not a whole number of cents,"
            f" 0 … {CENTS_PER_DOLLAR}"
        )
    for name in ("ticker", "event"):
        if (missing := table[name].isna().to_numpy()).any():
            raise DataError(f"{path}: row {missing.argmax() + 1}: {name} is missing; fill it in")
    table[["yes_bid", "no_bid"]] = bids
    table["timestamp"] = parse_instant_column(table["timestamp"], str(path))
    table = table.sort_values("timestamp", kind="stable")
    for event, quotes in table.groupby("event", sort=False):
        yield str(event), quotes


def _read_parquet(path: Path, columns: list[str]) -> pd.DataFrame:
    if not path.is_file():
        raise DataError(f"{path}: file not found")
    try:
        return pd.read_parquet(path, columns=columns)
    except (OSError, ValueError, KeyError, ArrowException) as error:
        raise DataError(f"{path}: cannot be read: {to_one_line(str(error))}") from error


def _build_event_markets(
    event: str, quotes: pd.DataFrame, outcomes: Mapping[str, int], step: np.timedelta64
) -> list[RecordedMarket]:
    """Return the recorded markets of one event, sorted by ticker.

    Markets without a recorded settlement, or without a quote for a whole step, are skipped with a
    warning.

    outcomes: payout of YES by ticker.
    """
    length = pd.Timedelta(step)
    end = quotes["timestamp"].iloc[-1]
    markets = []
    for ticker, own in quotes.groupby("ticker", sort=True):
        name = str(ticker)
        if name not in outcomes:
            log.warning("%s: skipped, its settlement is not recorded", name)
            continue
        sound = own[own["yes_bid"] + own["no_bid"] < CENTS_PER_DOLLAR].drop_duplicates(
            "timestamp", keep="last"
        )
        # Whole multiples of the step since 1970, from the first quote to the end.
        first = sound["timestamp"].min()
        times = pd.date_range(first.ceil(length), end, freq=length) if len(sound) else ()
        if not len(times):
            log.warning("%s: skipped, no quote is in force for a full step of %s", name, step)
            continue
        rows = sound.set_index("timestamp").reindex(times, method="ffill")
        bid, ask = (rows["yes_bid"].to_numpy(int), CENTS_PER_DOLLAR - rows["no_bid"].to_numpy(int))
        session = _build_session(bid, ask, outcomes[name])
        markets.append(RecordedMarket(event, name, session, rows.index.to_numpy("datetime64[ns]")))
    return markets


def _build_session(bid: Index, ask: Index, outcome: int) -> Array:
    """Build a session [T, F] from quotes, and append the settlement row.

    bid, ask: prices of YES [T - 1], cents.
    outcome: 1 if YES won, else 0.
    """
    session = np.zeros((len(bid) + 1, len(SESSION_COLUMNS)))
    rows = session[:-1]
    rows[:, YES_BID] = bid / CENTS_PER_DOLLAR
    rows[:, YES_ASK] = ask / CENTS_PER_DOLLAR
    rows[:, BID_SIZE] = np.where(bid > 0, ASSUMED_CONTRACTS_PER_LEVEL, 0)
    rows[:, ASK_SIZE] = np.where(ask < CENTS_PER_DOLLAR, ASSUMED_CONTRACTS_PER_LEVEL, 0)
    level = ASSUMED_TRADED_FRACTION * ASSUMED_CONTRACTS_PER_LEVEL
    rows[1:, SOLD] = np.round(level * np.maximum(bid[:-1] - bid[1:], 0))
    rows[1:, BOUGHT] = np.round(level * np.maximum(ask[1:] - ask[:-1], 0))
    session[-1, YES_BID] = outcome * (CENTS_PER_DOLLAR - 1) / CENTS_PER_DOLLAR
    session[-1, YES_ASK] = 1.0 if outcome else 1 / CENTS_PER_DOLLAR
    session[:, ESTIMATE] = mid_prices(session)
    return session
