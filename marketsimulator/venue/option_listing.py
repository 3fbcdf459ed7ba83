"""`GET /v2/options/contracts`: the options that are listed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import date
from decimal import Decimal, InvalidOperation

import numpy as np

from execution.orders.option_orders import SHARES, Contract
from foundation.errors import InputError
from marketsimulator.venue.asked import Response, refuse_other_keys, whole_number
from marketsimulator.venue.tickets import made_id
from trainingdata.instants import date_of

DEFAULT_PER_PAGE = 100
MAX_PER_PAGE = 10_000
STYLE = "american"  # of options on stocks and funds


def option_contracts(
    listed: Iterable[Contract], now: np.datetime64, query: Mapping[str, str]
) -> Response:
    """Return a page of the listed options that match a query, by symbol.

    Without an expiration date in the query it lists options until next Sunday, as Alpaca does.
    """
    refuse_other_keys(
        query,
        *("underlying_symbols", "status", "root_symbol", "type", "style", "limit", "page_token"),
        *("expiration_date", "expiration_date_gte", "expiration_date_lte"),
        *("strike_price_gte", "strike_price_lte"),
    )
    tests = [*_tests_of_names(query), *_tests_of_bounds(query, now)]
    active = query.get("status", "active") == "active" and query.get("style", STYLE) == STYLE
    chosen = [each for each in listed if active and all(test(each) for test in tests)]
    chosen.sort(key=lambda contract: contract.symbol)
    limit = whole_number(query, "limit", DEFAULT_PER_PAGE, 1, MAX_PER_PAGE)
    begin = whole_number(query, "page_token", 0)
    left = begin + limit < len(chosen)
    return {
        "option_contracts": [_answer(each) for each in chosen[begin : begin + limit]],
        "next_page_token": str(begin + limit) if left else None,
    }


def _tests_of_names(query: Mapping[str, str]) -> Iterable[Callable[[Contract], bool]]:
    if "underlying_symbols" in query:
        symbols = query["underlying_symbols"].split(",")
        yield lambda contract: contract.root in symbols
    if "root_symbol" in query:
        yield lambda contract: contract.root == query["root_symbol"]
    if "type" in query:
        if query["type"] not in ("call", "put"):
            raise InputError(f"type: {query['type'][:40]!r} is not one of call, put")
        yield lambda contract: contract.call == (query["type"] == "call")


def _tests_of_bounds(
    query: Mapping[str, str], now: np.datetime64
) -> Iterable[Callable[[Contract], bool]]:
    exact = _date(query, "expiration_date")
    first, last = _date(query, "expiration_date_gte"), _date(query, "expiration_date_lte")
    if exact is None and last is None:
        today = now.astype("datetime64[D]").astype(object)
        last = date.fromordinal(max(today, first or today).toordinal() // 7 * 7 + 7)
    lowest, highest = _number(query, "strike_price_gte"), _number(query, "strike_price_lte")
    if exact is not None:
        yield lambda contract: contract.expiry == exact
    if first is not None:
        yield lambda contract: contract.expiry >= first
    if last is not None:
        yield lambda contract: contract.expiry <= last
    if lowest is not None:
        yield lambda contract: contract.strike >= lowest
    if highest is not None:
        yield lambda contract: contract.strike <= highest


def _date(query: Mapping[str, str], name: str) -> date | None:
    if name not in query:
        return None
    day: date = date_of(query[name]).astype(object)
    return day


def _number(query: Mapping[str, str], name: str) -> Decimal | None:
    if name not in query:
        return None
    try:
        return Decimal(query[name])
    except InvalidOperation:
        raise InputError(f"{name}: {query[name][:40]!r} is not a number") from None


def _answer(contract: Contract) -> Response:
    kind = "call" if contract.call else "put"
    return {
        "id": made_id(contract.symbol),
        "symbol": contract.symbol,
        "name": f"{contract.root} {contract.expiry:%b %d %Y} {contract.strike:f} {kind.title()}",
        "status": "active",
        "tradable": True,
        "expiration_date": str(contract.expiry),
        "root_symbol": contract.root,
        "underlying_symbol": contract.root,
        "underlying_asset_id": made_id(contract.root),
        "type": kind,
        "style": STYLE,
        "strike_price": f"{contract.strike:f}",
        "multiplier": str(SHARES),
        "size": str(SHARES),
    }
