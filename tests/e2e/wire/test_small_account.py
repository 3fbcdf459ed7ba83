"""A small crypto account, bound by the smallest order: over the wire as in a backtest."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from decimal import Decimal

import pytest
import requests

from marketsimulator.runs.simulate import simulate_trading
from tests.e2e.practice import KEYS, Live, Practice, Start
from tests.marketsimulator.runs import eager

HEADERS = {"APCA-API-KEY-ID": KEYS.key, "APCA-API-SECRET-KEY": KEYS.secret}
WORDS = ("symbols=[SYXUSD,SYYUSD]", "forecaster=ewma", "increments=broker")
SPAN = ("start=2024-02-20T08:00Z", "end=2024-02-21T23:00Z")


@pytest.mark.parametrize("capital", [40.0, 90.0])
def test_small_live_account_matches_the_backtest_over_http(practice: Start, capital: float) -> None:
    here = practice(*WORDS, *SPAN, f"capital={capital}")
    market, settings = here.venue.market, here.venue.settings
    trader = settings.build_trader(settings.forecaster.build(market.bars.symbols))
    believed = eager(trader.build_beliefs(market), "2024-02-20T16:00")
    alone = replace(settings, fills=replace(settings.fills, remainder="cancel"))
    expected = simulate_trading(alone, market, "alone", replace(trader, belief_table=believed))
    live = Live.at(here, *WORDS)
    decisions = replace(live, trader=replace(live.trader, belief_table=believed)).through(here)
    assert len(expected.fills) > 4
    assert here.venue.broker.fills == expected.fills
    assert here.venue.broker.equity_row().equity == pytest.approx(
        expected.equity_rows[-1].equity, abs=0.005
    )
    said = {
        name for decision in decisions for c in decision.choices for name in c.binding_shadow_prices
    }
    assert "smallest_order" in said
    held: defaultdict[str, Decimal] = defaultdict(Decimal)
    for fill in expected.fills:
        held[fill.symbol] += fill.qty
        usd = abs(float(fill.qty)) * fill.price
        assert not fill.price or usd >= 10 or not held[fill.symbol]


LEAST_CRYPTO = "does not close its position, $10 (orders.min_crypto_value)"


def sent(here: Practice, side: str, quantity: float) -> tuple[int, str]:
    body = {"symbol": "SYY/USD", "side": side, "qty": f"{quantity:.9f}", "type": "market"}
    answer = requests.post(
        f"{here.url}/v2/orders", json={**body, "time_in_force": "gtc"}, headers=HEADERS, timeout=30
    )
    return answer.status_code, answer.json().get("message", "")


def test_practice_server_refuses_crypto_orders_below_minimum(practice: Start) -> None:
    here = practice(*WORDS, *SPAN)
    price = here.venue.broker.account().prices["SYYUSD"]
    asset = requests.get(f"{here.url}/v2/assets/SYYUSD", headers=HEADERS, timeout=30).json()
    assert float(asset["min_order_size"]) * price == pytest.approx(1.0)
    status, why = sent(here, "buy", 9.9 / price)
    assert (status, LEAST_CRYPTO in why) == (403, True)
    assert sent(here, "buy", 30 / price)[0] == 200
    status, why = sent(here, "sell", 5 / price)
    assert (status, LEAST_CRYPTO in why) == (403, True)
    assert sent(here, "sell", 22 / price)[0] == 200
    left = here.venue.broker.account().positions["SYYUSD"]
    assert float(left) * price < 10
    assert sent(here, "sell", float(left))[0] == 200, "what is left is closed whole"
    assert "SYYUSD" not in here.venue.broker.account().positions
