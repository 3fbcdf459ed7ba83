"""Dividends, splits, delistings and renames from a file; adjustment of prices for splits.

Settlement applies these events to positions. A file (CSV or Parquet) has one row for each event;
columns and kinds are read in any case:

    symbol  of a stock; for ended, merger and rename also of crypto
    date    New York, YYYY-MM-DD, the ex-date, or the first day without the symbol
    kind    dividend, split, ended, merger or rename
    value   dividend: USD per share, in the units of the prices;
            split: new shares for one old share;
            ended: USD paid per share, 0 for nothing, empty for the last price less a stated loss;
            merger: shares of `into` per share; rename: 1 or empty
    into    (merger, rename) the symbol that replaces the old one
    cash    (merger) USD per share in addition to the new shares
    per     (dividend) old or new: the share that a dividend on the day of a split is paid on
    known   (ended, merger) when the delisting became known, a New York date or an instant with a
            zone; empty for the open of `date`

Duplicates in a session are rejected: two splits, or one dividend in two rows. A symbol is delisted
or renamed at most once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from foundation.errors import DataError, InputError
from trainingdata.bars import VOLUME, Bars
from trainingdata.delistings import Delisting, Rename
from trainingdata.instants import parse_date, parse_instant
from trainingdata.instruments import instrument, is_crypto, is_symbol_in_any_case
from trainingdata.sessions import exchange_calendar, first_open_on_or_after, format_outside_calendar
from trainingdata.text_rows import read_text_rows

REQUIRED_COLUMNS = ("symbol", "date", "kind", "value")
OPTIONAL_COLUMNS = ("into", "cash", "known", "per")  # columns that a file may have
DELISTING_KINDS = ("ended", "merger", "rename")
ACTION_KINDS = ("dividend", "split", *DELISTING_KINDS)
# Kinds that have an entry in an optional column.
_KINDS_BY_COLUMN = {
    "into": DELISTING_KINDS[1:],
    "cash": DELISTING_KINDS[1:2],
    "known": DELISTING_KINDS[:2],
    "per": ACTION_KINDS[:1],
}


@dataclass(frozen=True, slots=True)
class CorporateAction:
    """A dividend or a split of a stock.

    symbol: symbol of the stock.
    effective_open: open of the session from which the action applies (the ex-date), UTC.
    split_ratio: new shares for one old share; 1 without a split.
    dividend: USD per old share, in split-adjusted prices per new share; 0 without a dividend.
    """

    symbol: str
    effective_open: np.datetime64
    split_ratio: float = 1.0
    dividend: float = 0.0


CorporateEvent = CorporateAction | Delisting | Rename


def read_corporate_events(path: Path, *, raw: bool = False) -> tuple[CorporateEvent, ...]:
    """Read the dividends, splits, delistings and renames in a file; return them in time order.

    raw: whether prices are not adjusted for splits.

    Raises DataError for an invalid or a duplicate row, and for a dividend on the day of a split
    that does not state its share.
    """
    listed: list[tuple[dict[str, str], CorporateEvent]] = []
    rows: dict[tuple[object, ...], int] = {}
    found = read_text_rows(path, REQUIRED_COLUMNS, ("corporate actions", "have"), OPTIONAL_COLUMNS)
    for number, cells in enumerate(found, 1):
        row = {**dict.fromkeys(OPTIONAL_COLUMNS, ""), **cells, "kind": cells["kind"].casefold()}
        try:
            event = _parse_event(row)
        except DataError as error:
            raise DataError(f"{path}: row {number}: {error}") from None
        # A session may have a regular and a special dividend.
        same: tuple[object, ...] = (event.symbol,)
        if isinstance(event, CorporateAction):
            same = (event.symbol, event.effective_open, row["kind"], event.dividend)
        if same in rows:
            what = f"{event.symbol} is delisted or renamed twice; keep one row"
            if isinstance(event, CorporateAction):
                repeated = "two splits" if row["kind"] == "split" else "the same dividend twice"
                what = (
                    f"{event.symbol} has {repeated} in the session of {row['date']}; keep one row,"
                    " or combine them"
                )
            raise DataError(f"{path}: rows {rows[same]} and {number}: {what}")
        rows[same] = number
        listed.append((row, event))
    events = _convert_split_day_dividends(path, listed, raw=raw)
    return tuple(sorted(events, key=_event_sort_key))


def _convert_split_day_dividends(
    path: Path, listed: Sequence[tuple[dict[str, str], CorporateEvent]], *, raw: bool
) -> list[CorporateEvent]:
    """Return the events, with each dividend on the day of a split in the units of the prices.

    listed: rows of the file with their events.
    raw: whether prices are not adjusted for splits.

    Raises DataError for a dividend on the day of a split that does not state its share.
    """
    ratios = {
        (event.symbol, event.effective_open): event.split_ratio
        for row, event in listed
        if isinstance(event, CorporateAction) and row["kind"] == "split"
    }
    events = []
    for number, (row, event) in enumerate(listed, 1):
        ratio = ratios.get((event.symbol, event.effective_open))
        if ratio and isinstance(event, CorporateAction) and row["kind"] == "dividend":
            if row["per"] not in ("old", "new"):
                raise DataError(
                    f"{path}: row {number}: {event.symbol} has a dividend and a split in the"
                    f" session of {row['date']}; write old or new in a column per of the dividend:"
                    " USD per share before or after the split"
                )
            # Raw prices count old shares before the split, adjusted prices new ones.
            shares = ratio ** ((row["per"] == "new") - (not raw))
            event = replace(event, dividend=event.dividend * shares)
        events.append(event)
    return events


def _event_sort_key(event: CorporateEvent) -> tuple[object, ...]:
    """Return an event's sort key.

    Within a session and symbol, dividends precede the split, and a delisting or rename follows it.
    """
    if isinstance(event, CorporateAction):
        return event.effective_open, event.symbol, event.split_ratio != 1.0, event.dividend
    return event.effective_open, event.symbol, True, np.inf


def adjust_for_splits(bars: Bars, actions: Sequence[CorporateAction]) -> Bars:
    """Return the panel with raw prices and volumes in the units after its last split.

    Models compare prices across a split; in raw prices a split looks like a large loss.
    """
    splits = [action for action in actions if action.split_ratio != 1.0]
    if not splits:
        return bars
    values = bars.values.copy()
    unconfirmed_bars = [(times, left_out.copy()) for times, left_out in bars.unconfirmed_bars]
    for action in splits:
        # A decision sees only splits known by then. A panel that is adjusted for later ones, too,
        # would give the same returns up to the rounding of a quotient, and so sometimes another
        # share.
        if action.symbol not in bars.symbols or action.effective_open > bars.last_instant:
            continue
        s = bars.symbols.index(action.symbol)
        before = bars.times <= action.effective_open
        values[s, before, :VOLUME] /= action.split_ratio
        values[s, before, VOLUME] *= action.split_ratio
        if unconfirmed_bars:
            times, left_out = unconfirmed_bars[s]
            left_out[times <= action.effective_open, :VOLUME] /= action.split_ratio
            left_out[times <= action.effective_open, VOLUME] *= action.split_ratio
    return replace(bars, values=values, unconfirmed_bars=tuple(unconfirmed_bars))


def _parse_event(row: dict[str, str]) -> CorporateEvent:
    symbol, kind = row["symbol"], row["kind"]
    _check_kind(symbol, kind)
    for column, kinds in _KINDS_BY_COLUMN.items():
        if row[column] and kind not in kinds:
            raise DataError(f"column {column!r} does not apply to kind {kind}; empty the cell")
    try:
        day = parse_date(row["date"])
    except ValueError:
        raise DataError(f"date {row['date']!r} is invalid; write it as YYYY-MM-DD") from None
    value = _parse_number_cell(
        "value", row["value"] or {"ended": "nan", "rename": "1"}.get(kind, "")
    )
    cash = _parse_number_cell("cash", row["cash"] or "0")
    opens = first_open_on_or_after(day)
    if opens is None:
        raise DataError(f"{row['date']} {format_outside_calendar(day)}")
    name = instrument(symbol).symbol
    if kind in DELISTING_KINDS:
        return _parse_symbol_end(row, name, opens, value, cash)
    if not (np.isfinite(value) and value > 0):
        raise DataError(
            f"value of the {kind} on {row['date']} is {row['value']}; it must be above 0"
        )
    if kind == "split":
        return CorporateAction(name, opens, split_ratio=value)
    return CorporateAction(name, opens, dividend=value)


def _parse_number_cell(column: str, cell: str) -> float:
    try:
        return float(cell)
    except ValueError:
        fault = f"{column} {cell!r} is not a number" if cell else f"{column} is empty"
        raise DataError(f"{fault}; write a plain number such as 0.25") from None


def _check_kind(symbol: str, kind: str) -> None:
    """Reject an event with an invalid symbol, or with a kind that is unknown or not for crypto."""
    if not is_symbol_in_any_case(symbol):
        fault = f"{symbol!r} is not a symbol" if symbol else "symbol '' is empty"
        raise DataError(f"{fault}; write a stock (NVDA) or a crypto pair in USD (BTCUSD)")
    if kind not in ACTION_KINDS:
        raise DataError(f"kind {kind!r} is unknown; use one of {', '.join(ACTION_KINDS)}")
    if is_crypto(symbol) and kind not in DELISTING_KINDS:
        raise DataError(
            f"{symbol} is a crypto pair, for which a {kind} is not supported; delete the row, and"
            " convert all prices in its file to the same unit"
        )


def _parse_symbol_end(
    row: dict[str, str], name: str, opens: np.datetime64, value: float, cash: float
) -> Delisting | Rename:
    """Return the delisting or rename that a row of the file states.

    name: symbol that is delisted or renamed.
    opens: open of the first session without the symbol.
    value: number in the column `value`; NaN if the row states no payout.
    cash: USD per share in addition to new shares.
    """
    kind = row["kind"]
    if kind == "rename" and value != 1.0:
        raise DataError(
            f"value of a rename is {row['value']}; it must be 1 or empty; use kind merger for"
            " another exchange ratio"
        )
    if kind == "merger" and not (np.isfinite(value) and value > 0):
        raise DataError(
            f"value of a merger is {row['value']}; write the number of new shares per old share,"
            " above 0"
        )
    if kind == "ended" and row["value"] and not (np.isfinite(value) and value >= 0):
        raise DataError(
            f"value of a delisting is {row['value']}; write the payout per share, 0 USD or more"
        )
    if not (np.isfinite(cash) and cash >= 0):
        raise DataError(f"cash is {row['cash']}; write the cash paid per share, 0 USD or more")
    if kind == "ended":
        return Delisting(name, opens, _booked(row, opens), cash_per_share=value)
    if not is_symbol_in_any_case(row["into"]):
        fault = f"{row['into']!r}, not a symbol" if row["into"] else "empty"
        raise DataError(f"into is {fault}; write the symbol that replaces {name}")
    into = instrument(row["into"]).symbol
    if into == name:
        raise DataError(f"a {kind} replaces {name} by itself; write another symbol in 'into'")
    if kind == "rename":
        return Rename(name, opens, into)
    return Delisting(
        name, opens, _booked(row, opens), cash_per_share=cash, exchange_ratio=value, successor=into
    )


def _booked(row: dict[str, str], opens: np.datetime64) -> np.datetime64:
    """Return the first session open, not before `opens`, at which a row is known."""
    known = opens
    if row["known"]:
        try:
            known = max(opens, parse_instant(row["known"], name="known", end_of_day=True))
        except InputError as error:
            raise DataError(str(error)) from None
    sessions = exchange_calendar().opens
    k = int(np.searchsorted(sessions, known))
    if k == len(sessions):
        raise DataError(f"known {row['known']} {format_outside_calendar(known)}")
    return np.datetime64(sessions[k])
