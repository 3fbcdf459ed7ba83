"""The practice Alpaca's figures of its account over time: history, day's profit, calendar."""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path

import pytest
import requests
from alpaca.trading.client import TradingClient
from alpaca.trading.requests import GetOptionContractsRequest, GetPortfolioHistoryRequest

from tests.e2e.practice import KEYS, Practice, Start, buy, trading
from tests.support.spreads import AT, LONG, SHORT, UNDER, options, put, spreads

HEADERS = {"APCA-API-KEY-ID": KEYS.key, "APCA-API-SECRET-KEY": KEYS.secret}
OPEN = "2024-02-20T15:30:00Z"
CLOSES = ("2024-02-20T21:00:00Z", "2024-02-21T21:00:00Z", "2024-02-22T21:00:00Z")


def equity(client: TradingClient) -> float:
    return float(client.get_account().equity)


def history(here: Practice, **query: str) -> dict[str, list[float]]:
    url = f"{here.url}/v2/account/portfolio/history"
    answer = requests.get(url, params=query, headers=HEADERS, timeout=30)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_portfolio_history_equals_past_account_equity(practice: Start) -> None:
    here = practice("symbols=[SYA,SYB]")
    client = trading(here)
    here.advance(OPEN)
    client.submit_order(buy(qty=600))
    shown = []
    for close in CLOSES:
        here.advance(close)
        shown.append(equity(client))
    daily = history(here, timeframe="1D")
    assert daily["equity"] == pytest.approx(shown, abs=0.01)
    assert daily["base_value"] == 100_000
    assert daily["profit_loss"] == pytest.approx([each - 100_000 for each in shown], abs=0.01)
    days = [datetime.fromtimestamp(at, UTC).date() for at in daily["timestamp"]]
    assert days == [date(2024, 2, 20), date(2024, 2, 21), date(2024, 2, 22)]
    parsed = client.get_portfolio_history(GetPortfolioHistoryRequest(timeframe="1D"))
    assert parsed.equity == daily["equity"]


def test_portfolio_history_refuses_invalid_parameter_by_name(practice: Start) -> None:
    here = practice("symbols=[SYA]")
    url = f"{here.url}/v2/account/portfolio/history"
    for query, says in (
        ({"timeframe": "7Min"}, "timeframe: '7Min' is unknown; the only choice is 1D"),
        ({"period": "1M"}, "period: not supported"),
        ({"cashflow_types": "ALL"}, "cashflow_types: not supported"),
    ):
        answer = requests.get(url, params=query, headers=HEADERS, timeout=30)
        assert (answer.status_code, says in answer.text) == (422, True), answer.text


def test_intraday_profit_of_position_starts_at_previous_close(practice: Start) -> None:
    here = practice("symbols=[SYA,SYB,SYXUSD]")
    client = trading(here)
    here.advance(OPEN)
    client.submit_order(buy(qty=10))
    client.submit_order(buy("SYXUSD", qty=1))
    here.advance(CLOSES[0])
    (stock,) = [each for each in client.get_all_positions() if each.symbol == "SYA"]
    close = float(stock.current_price)
    bought_today = float(stock.unrealized_intraday_pl), float(stock.unrealized_pl)
    assert bought_today[0] == pytest.approx(bought_today[1])
    here.advance(CLOSES[1])
    for each in client.get_all_positions():
        quantity, price = float(each.qty), float(each.current_price)
        last = float(each.lastday_price)
        day = float(each.unrealized_intraday_pl)
        assert day == pytest.approx(quantity * (price - last))
        assert float(each.change_today) == pytest.approx(price / last - 1)
        cost = float(each.cost_basis)
        share = float(each.unrealized_pl) / cost
        assert float(each.unrealized_plpc) == pytest.approx(share)
        assert each.symbol != "SYA" or last == close


def test_split_leaves_the_cost_basis_of_position_unchanged(practice: Start, tmp_path: Path) -> None:
    path = tmp_path / "actions.csv"
    path.write_text("symbol,date,kind,value\nSYA,2024-02-21,split,2\n")
    here = practice("symbols=[SYA]", f"data.actions={path}", "data.adjustment=raw")
    client = trading(here)
    here.advance(OPEN)
    client.submit_order(buy(qty=10))
    here.advance(CLOSES[0])
    (before,) = client.get_all_positions()
    here.advance("2024-02-21T15:30:00Z")
    (after,) = client.get_all_positions()
    assert (after.qty, after.cost_basis) == ("20", before.cost_basis)
    halved = float(before.current_price) / 2
    assert float(after.lastday_price) == pytest.approx(halved)


def test_option_position_reports_its_entry_price(practice: Start, vix: Path) -> None:
    here = options(practice, vix)
    here.advance(AT)
    fill = spreads(here).submit(put("spread"))
    held = {each.symbol: each for each in trading(here).get_all_positions()}
    sold, bought = held[SHORT], held[LONG]
    credit = float(sold.avg_entry_price) - float(bought.avg_entry_price)
    assert credit == pytest.approx(float(fill.credit))
    assert float(sold.cost_basis) == pytest.approx(-100 * float(sold.avg_entry_price))
    for each in held.values():
        profit = float(each.market_value) - float(each.cost_basis)
        assert float(each.unrealized_pl) == pytest.approx(profit)


def test_option_contract_list_contains_only_quoted_options(practice: Start, vix: Path) -> None:
    here = options(practice, vix)
    here.advance(AT)
    client = trading(here)
    asked = GetOptionContractsRequest(
        underlying_symbols=[UNDER], expiration_date=date(2024, 2, 20), limit=10_000
    )
    listed = client.get_option_contracts(asked).option_contracts
    assert listed is not None
    assert {SHORT, LONG} <= {each.symbol for each in listed}
    quotes = here.venue.options.quotes([each.symbol for each in listed], here.venue.now)
    assert set(quotes) == {each.symbol for each in listed}
    nothing = GetOptionContractsRequest(underlying_symbols=["NONE"])
    assert client.get_option_contracts(nothing).option_contracts == []
