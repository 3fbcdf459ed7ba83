"""A practice venue as slow as a real one: each fault does what its name says, and ends."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests

from foundation.errors import InputError
from practice.alpaca_server import parse_arguments
from practice.faults import InjectedFault, read_faults
from tests.e2e.practice import Practice, Start
from tests.support.messages import refused
from trainingdata.bars import CLOSE, HIGH, LOW, OPEN, Bars

KEYS = {"APCA-API-KEY-ID": "K", "APCA-API-SECRET-KEY": "S"}


def ask(here: Practice, method: str, path: str, **body: Any) -> tuple[int, Any]:
    """The status and JSON of an answer."""
    answer = requests.request(
        method, f"{here.url}/v2{path}", headers=KEYS, json=body or None, timeout=30
    )
    return answer.status_code, answer.json() if answer.content else None


def send(here: Practice, side: str = "buy", qty: int = 10, **more: Any) -> Any:
    """An order that the venue takes, as it answers."""
    terms = {"symbol": "SYA", "side": side, "qty": str(qty), "type": "market"}
    status, told = ask(here, "POST", "/orders", **{"time_in_force": "gtc", **terms, **more})
    assert status == 200, told
    return told


def seen(here: Practice, order: Any) -> tuple[str, int]:
    """An order's status and filled quantity."""
    told = ask(here, "GET", f"/orders/{order['id']}")[1]
    return told["status"], int(told["filled_qty"])


def held(here: Practice) -> int:
    """The shares that the positions show."""
    return sum(int(each["qty"]) for each in ask(here, "GET", "/positions")[1])


def price(here: Practice) -> float:
    return here.venue.market_price("SYA") or 0.0


def stop(here: Practice, ratio: float = 0.5, **more: Any) -> Any:
    """A stop for ten shares, at so much of the present price."""
    return send(here, "sell", type="stop", stop_price=f"{price(here) * ratio:.2f}", **more)


def falling(bars: Bars) -> Bars:
    """From the second hour on, each bar opens at 90 % of the last open, and falls by 8 %."""
    values = bars.values.copy()
    start = int(np.searchsorted(bars.times, np.datetime64("2024-02-20T16:30")))
    for k in range(start, len(bars.times)):
        values[:, k, : CLOSE + 1] = values[:, start - 1, [OPEN]] * 0.9 ** (k - start + 1)
        values[:, k, HIGH] *= 1.001
        values[:, k, LOW] *= 0.92
    return replace(bars, values=values)


def test_slow_cancellation_holds_shares_until_it_ends(here: Practice) -> None:
    send(here)
    resting = stop(here)
    here.fail(kind="slow_cancel", seconds=30)
    assert ask(here, "DELETE", f"/orders/{resting['id']}") == (204, None)
    for seconds in (20, 9):
        here.pass_seconds(seconds)
        assert seen(here, resting) == ("pending_cancel", 0)
        sale = {"symbol": "SYA", "side": "sell", "qty": "10", "type": "market"}
        status, told = ask(here, "POST", "/orders", time_in_force="day", **sale)
        assert (status, told["code"]) == (403, 40310000)
        assert "insufficient qty available" in told["message"]
    assert ask(here, "DELETE", f"/orders/{resting['id']}")[1]["message"] == "order pending cancel"
    here.pass_seconds(1)
    assert seen(here, resting) == ("canceled", 0)
    assert send(here, "sell")["status"] == "filled"


@pytest.mark.parametrize(("seconds", "ends"), [(None, False), (0, True), (3599, True)])
def test_cancellation_ends_by_the_clock_or_never(
    here: Practice, seconds: float | None, ends: bool
) -> None:
    send(here)
    resting = stop(here)
    here.fail(kind="slow_cancel", seconds=seconds, symbol="SYB")
    here.fail(kind="slow_cancel", seconds=seconds, symbol="SYA")
    ask(here, "DELETE", f"/orders/{resting['id']}")
    assert (seen(here, resting)[0] == "canceled") == (seconds == 0)
    here.advance()
    assert seen(here, resting)[0] == ("canceled" if ends else "pending_cancel")


def test_order_may_fill_while_its_cancellation_waits(practice: Start) -> None:
    here = practice("symbols=[SYA,SYB]", bars=falling)
    here.advance("2024-02-20T15:30Z")
    send(here)
    resting = stop(here, 0.95)
    here.fail(kind="slow_cancel", seconds=None)
    ask(here, "DELETE", f"/orders/{resting['id']}")
    here.advance()
    here.advance()
    assert seen(here, resting) == ("filled", 10)
    assert held(here) == 0


def test_running_clock_ends_slow_cancellations(practice: Start) -> None:
    here = practice("symbols=[SYA,SYB]", speed=600.0)
    resting = send(here, type="limit", limit_price="1.00")
    here.fail(kind="slow_cancel", seconds=60)
    asked_at = np.datetime64(ask(here, "GET", "/clock")[1]["timestamp"][:-1])
    ask(here, "DELETE", f"/orders/{resting['id']}")
    while seen(here, resting)[0] == "pending_cancel":
        pass
    told = ask(here, "GET", f"/orders/{resting['id']}")[1]
    assert np.datetime64(told["canceled_at"][:-1]) - asked_at >= np.timedelta64(60, "s")
    passed = requests.post(f"{here.url}/control/pass", json={"seconds": 1}, timeout=9)
    assert passed.status_code == 409


@pytest.mark.parametrize("seconds", [None, 60])
def test_partly_filled_sale_keeps_its_rest(here: Practice, seconds: float | None) -> None:
    send(here, qty=11)
    here.fail(kind="partial_rests", seconds=seconds, side="sell")
    sale = send(here, "sell", 11)
    assert (sale["status"], sale["filled_qty"]) == ("partially_filled", "5")
    assert held(here) == 6
    assert [each["qty_available"] for each in ask(here, "GET", "/positions")[1]] == ["0"]
    here.advance()
    here.advance()
    assert seen(here, sale) == (("filled", 11) if seconds else ("partially_filled", 5))
    if seconds is None:
        assert ask(here, "DELETE", f"/orders/{sale['id']}")[0] == 204
        assert seen(here, sale) == ("canceled", 5)
        assert send(here, "sell", 6)["status"] == "filled"


def test_partly_filled_stop_keeps_its_rest(practice: Start) -> None:
    here = practice("symbols=[SYA,SYB]", bars=falling)
    here.advance("2024-02-20T15:30Z")
    send(here)
    here.fail(kind="partial_rests", seconds=None, type="stop")
    resting = stop(here, 0.95)
    assert seen(here, resting) == ("new", 0)
    status, _ = ask(
        here,
        "POST",
        "/orders",
        symbol="SYA",
        side="sell",
        qty="1",
        type="market",
        time_in_force="day",
    )
    assert status == 403
    for _ in range(3):
        here.advance()
    assert seen(here, resting) == ("partially_filled", 5)
    assert held(here) == 5


def test_elected_stop_limit_rests_unfilled(practice: Start) -> None:
    for seconds, filled in ((None, 0), (60, 10)):
        here = practice("symbols=[SYA,SYB]", bars=falling)
        here.advance("2024-02-20T15:30Z")
        send(here)
        here.fail(kind="elected_rests", seconds=seconds)
        at = f"{price(here) * 0.95:.2f}"
        resting = send(here, "sell", type="stop_limit", stop_price=at, limit_price="1.00")
        here.advance()
        told = ask(here, "GET", f"/orders/{resting['id']}")[1]
        assert (told["type"], told["status"], told["filled_qty"]) == ("stop_limit", "new", "0")
        here.advance()
        here.advance()
        assert seen(here, resting)[1] == filled


@pytest.mark.parametrize("above", [1.025, 1.04])
def test_buy_stop_becomes_a_stop_limit_order(practice: Start, above: float) -> None:
    def scaled(bars: Bars) -> Bars:
        values = bars.values.copy()
        values[:, :, : CLOSE + 1] *= 0.5 if above == 1.04 else 1.0
        return replace(bars, values=values)

    here = practice("symbols=[SYA,SYB]", bars=scaled)
    here.advance("2024-02-20T15:30Z")
    send(here, "sell")
    at = round(price(here) * 1.05, 2)
    assert (at < 50) == (above == 1.04)
    here.fail(kind="converted_stop")
    made = send(here, type="stop", stop_price=f"{at:.2f}")
    assert made["type"] == "stop_limit"
    assert float(made["limit_price"]) == round(at * above, 2)
    assert send(here, "sell", symbol="SYB")["type"] == "market"


def test_wrong_marks_change_values_alone(here: Practice) -> None:
    send(here)

    def told() -> tuple[float, float, float, float]:
        account, (position,) = ask(here, "GET", "/account")[1], ask(here, "GET", "/positions")[1]
        equity, cash = float(account["equity"]), float(account["cash"])
        assert equity == pytest.approx(cash + float(account["long_market_value"]))
        return equity, cash, float(position["market_value"]), float(position["qty"])

    def trade() -> float:
        url = f"{here.url}/v2/stocks/trades/latest?symbols=SYA"
        return float(requests.get(url, headers=KEYS, timeout=9).json()["trades"]["SYA"]["p"])

    true, traded = told(), trade()
    here.fail(kind="wrong_marks", factor=0.9, count=2)
    wrong = told()
    assert wrong[2] == pytest.approx(0.9 * true[2])
    assert wrong[0] == pytest.approx(true[0] - 0.1 * true[2])
    assert (wrong[1], wrong[3], trade()) == (true[1], true[3], traded)
    assert told() == true


@pytest.mark.parametrize(
    "fault",
    [
        {"kind": "delay", "seconds": None},
        {"kind": "slow_cancel", "seconds": -1},
        {"kind": "slow_cancel", "seconds": True},
        {"kind": "wrong_marks", "factor": 0},
        {"kind": "partial_rests", "side": "both"},
        {"kind": "slow"},
    ],
)
def test_hostile_fault_of_a_slow_venue_is_refused(fault: dict[str, Any]) -> None:
    with refused(InputError, f"faults.{[*fault][-1]}"):
        InjectedFault(**fault)


@pytest.mark.parametrize("seconds", [0, -1, True, "3", None, 1e9])
def test_only_finite_seconds_pass_on_the_clock(here: Practice, seconds: Any) -> None:
    before = ask(here, "GET", "/clock")
    answer = requests.post(f"{here.url}/control/pass", json={"seconds": seconds}, timeout=9)
    assert answer.status_code == 422
    assert ask(here, "GET", "/clock") == before


def test_passing_seconds_stop_before_the_next_instant(here: Practice) -> None:
    here.pass_seconds(80_000)
    assert ask(here, "GET", "/clock")[1]["timestamp"] == "2024-02-20T16:29:59Z"
    here.advance()
    assert ask(here, "GET", "/clock")[1]["timestamp"] == "2024-02-20T16:30:00Z"


@pytest.mark.parametrize(
    "text",
    ["{", "[]", '{"faults": {}}', '{"faults": [{"kind": "slow_cancel", "second": 3}]}', None],
)
def test_transcript_without_faults_is_refused(tmp_path: Path, text: str | None) -> None:
    path = tmp_path / "transcript.json"
    if text is not None:
        path.write_text(text)
    with refused(InputError, "--faults", "transcript.json", varies=str(tmp_path)):
        read_faults(path)


def test_server_plans_the_faults_of_a_transcript(tmp_path: Path) -> None:
    path = tmp_path / "transcript.json"
    path.write_text(json.dumps({"faults": [{"kind": "slow_cancel", "seconds": 3}], "seen": []}))
    settings, _ = parse_arguments([f"--faults={path}"])
    assert settings.faults == [InjectedFault(kind="slow_cancel", seconds=3.0)]
