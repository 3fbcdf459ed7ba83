"""One symbol that is odd is set aside, named and left alone, and the others trade on."""

# Private access: discrepancies and a late bar that a practice server cannot produce.
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from execution.brokers import UnmodelledOrder
from execution.journal.halts import CLEARED_AUTOMATICALLY
from execution.live.__main__ import clear_halt
from execution.live.account_lock import JOURNAL_FILE
from execution.live.expected_positions import DiscrepancyValue
from execution.live.status import report_status
from execution.orders.orders import Order
from foundation.clock import utc_now
from foundation.errors import BrokerError
from tests.e2e.changed_answers import Told, changed_answers
from tests.e2e.practice import OPENING, Practice, Start, buy, trading
from tests.support.desks import ALWAYS, LISTED, Desk, attacked, halted_by
from tests.support.messages import refused

CYCLES = tuple(f"2024-02-20T{hour}:30:00Z" for hour in (16, 17, 18, 19))
WIDE = ("symbols=[SYA,SYB]", "forecaster=ewma", "sizing.strategy=equal_weight")
# The account holds less than a tenth of its equity in each symbol.
SMALL = (*WIDE, "limits.symbol_cap=0.05", "sizing.band=0")
POSITIONS = "/v2/positions"


@pytest.fixture
def here(practice: Start) -> Practice:
    here = practice("symbols=[SYA,SYB,SYC]")
    here.advance(OPENING)
    return here


@pytest.fixture
def desk(here: Practice, tmp_path: Path) -> Desk:
    """One that holds both of its symbols."""
    desk = Desk.at(here, tmp_path, *SMALL)
    desk.job.step()
    here.advance(CYCLES[0])
    return desk


def bought_by_hand(here: Practice) -> None:
    trading(here).submit_order(buy("SYA", 3))


def bought_elsewhere(here: Practice) -> None:
    trading(here).submit_order(buy("SYC", 3))


def waiting_order(here: Practice, symbol: str = "SYA", quantity: int = 3) -> None:
    order = {"symbol": symbol, "qty": str(quantity), "side": "buy", "client_order_id": "by-hand"}
    limit = {"type": "limit", "limit_price": "1", "time_in_force": "gtc"}
    trading(here).post("/orders", {**order, **limit})


def ordered(desk: Desk) -> set[str]:
    """Symbols of what the last cycle has decided to order."""
    decision = desk.cycles[-1].decision
    assert decision is not None
    return {order.symbol for order in decision.orders}


def told(desk: Desk) -> list[str]:
    return [text for (text,) in desk.database.query("SELECT text FROM notices")]


@pytest.mark.parametrize(
    ("odd", "symbol", "named"),
    [
        (bought_by_hand, "SYA", "SYA: the venue holds "),
        (bought_elsewhere, "SYC", "SYC: the venue holds 3, our journal expects 0"),
        (waiting_order, "SYA", "unknown order by-hand (SYA): not in our journal"),
    ],
)
def test_quarantined_symbol_counts_in_limits_while_others_trade(
    desk: Desk,
    here: Practice,
    tmp_path: Path,
    odd: Callable[[Practice], None],
    symbol: str,
    named: str,
) -> None:
    """The quarantine survives a restart."""
    odd(here)
    held = here.venue.broker.account().positions.get(symbol, Decimal(0))
    others = set()
    for instant in CYCLES[1:3]:
        desk.job.step()
        others |= ordered(desk)
        account = desk.broker.account()
        assert account.projected_positions[symbol] >= held, "it counts"
        here.advance(instant)
        desk = desk.again()
    assert others >= {"SYA", "SYB"} - {symbol}
    assert symbol not in others
    assert here.venue.broker.account().positions.get(symbol, Decimal(0)) == held
    assert halted_by(desk) == ["symbols"]
    (text,) = told(desk)
    assert named in text, "once"
    assert named in " ".join(report_status(tmp_path / JOURNAL_FILE, utc_now()).closing_lines)
    clear_halt(tmp_path / JOURNAL_FILE, "symbols", "a person")
    desk.job.step()
    assert halted_by(desk) == []
    assert symbol in ordered(desk) | {"SYC"}, "what is there is the opening balance from now on"


@pytest.mark.parametrize("venue_type", ["REO", "REOC", "SPIN", "NEWTYPE"])
def test_activity_not_understood_quarantines_its_symbol(
    desk: Desk, here: Practice, tmp_path: Path, venue_type: str
) -> None:
    """It is alerted once, by its type, and moves no profit until a person has cleared it."""
    held = here.venue.broker.account().positions["SYA"]
    entry = {"activity_type": venue_type, "symbol": "SYA", "net_amount": "20", "qty": f"-{held}"}
    here.venue.record.record_activity({"date": "2024-02-20", **entry})
    for instant in CYCLES[1:3]:
        desk.job.step()
        assert "SYA" not in ordered(desk)
        here.advance(instant)
        desk = desk.again()
    assert halted_by(desk) == ["symbols"]
    assert here.venue.broker.account().positions["SYA"] == held
    profits = {each.symbol: each for each in desk.live.account.positions.position_profits()}
    assert profits["SYA"].realised_profit == 0
    (halt,) = (text for text in told(desk) if text.startswith("halted"))
    assert "is not understood" in halt
    assert sum(f"({venue_type}): -{held} SYA and 20 USD" in text for text in told(desk)) == 1
    clear_halt(tmp_path / JOURNAL_FILE, "symbols", "a person")
    desk.job.step()
    assert halted_by(desk) == []


def test_unknown_activity_without_symbol_is_alerted_once(desk: Desk, here: Practice) -> None:
    entry = {"activity_type": "INVPNL", "net_amount": "20", "date": "2024-02-20"}
    here.venue.record.record_activity(entry)
    for instant in CYCLES[1:3]:
        desk.job.step()
        here.advance(instant)
        desk = desk.again()
    (text,) = told(desk)
    assert "(INVPNL): 0 units and 20 USD" in text
    assert halted_by(desk) == []


@pytest.mark.parametrize(("side", "limit"), [("buy", None), ("sell", 0.01)])
def test_manual_order_counts_at_market_price_not_limit(
    here: Practice, tmp_path: Path, side: str, limit: float | None
) -> None:
    desk = Desk.at(here, tmp_path, *WIDE)
    account = desk.broker.account()
    order = Order(
        "by-hand",
        "SYC",
        side,
        Decimal(5_000),
        "",
        limit_price=limit,
        type="limit" if limit else "market",
    )  # type: ignore[arg-type]
    assert desk.live.reconciler._orders_value([order], account) > Decimal(
        repr(0.1 * account.equity)
    )
    unseen = replace(order, symbol="NONE", client_order_id="other")
    assert desk.live.reconciler._orders_value([unseen], account) == Decimal("Infinity")


def test_resolved_discrepancy_resumes_trading_by_itself(desk: Desk, here: Practice) -> None:
    waiting_order(here)
    desk.job.step()
    assert halted_by(desk) == ["symbols"]
    (waiting,) = trading(here).get_orders()
    trading(here).cancel_order_by_id(waiting.id)  # type: ignore[union-attr]
    desk.step_at(CYCLES[1])
    assert "SYA" in ordered(desk)
    (halt,) = desk.live.halts.history()
    assert halt.cleared_by == CLEARED_AUTOMATICALLY


def test_activity_list_without_known_fills_is_refused(here: Practice, tmp_path: Path) -> None:
    """Positions agree with the order responses, and cash is not compared with that list."""
    told = Told(LISTED, lambda rows: [each for each in rows if "price" not in each], ALWAYS)
    with attacked(here, tmp_path, told, *WIDE) as desk:
        with refused(BrokerError, "0"):
            desk.job.step()
        assert desk.live.halts.history() == ()
        told.answers = 2
        assert desk.step_at(CYCLES[1]).decision is not None, "the third answer has them"
        assert desk.live.halts.history() == ()


@dataclass
class WithoutPositions:
    """While armed, the venue holds no positions, and the account's sums agree."""

    armed: bool = False

    def __call__(self, method: str, path: str, told: Any) -> Any:
        if not self.armed or method != "GET":
            return told
        if path == "/v2/account":
            empty = dict.fromkeys(("long_market_value", "short_market_value"), "0")
            return {**told, **empty, "equity": told["cash"], "portfolio_value": told["cash"]}
        return [] if path == POSITIONS else told


def test_vanished_positions_halt_all_trading(here: Practice, tmp_path: Path) -> None:
    gone = WithoutPositions()
    with attacked(here, tmp_path, gone, *WIDE) as desk:
        gone.armed = True
        posts = len(here.posts)
        desk.job.step()
        assert desk.cycles[-1].decision is None
        assert "positions" in halted_by(desk)
        assert len(here.posts) == posts
        gone.armed = False
        desk.step_at(CYCLES[1])
        assert "positions" not in halted_by(desk), "what is there again settles it"


def test_positions_that_return_halt_nothing(here: Practice, tmp_path: Path) -> None:
    """The account's reading has the positions that four answers before it lacked."""
    gone = Told(POSITIONS, lambda rows: [])
    with attacked(here, tmp_path, gone, *WIDE) as desk:
        held = {*desk.broker.account().positions}
        gone.answers = 4  # each comparison of one reconciliation
        desk.live.reconcile()
        account = desk.broker.account()
        assert account.uncertain_symbols == held == {*account.positions}
        assert desk.live.halts.history() == ()
        desk.step_at(CYCLES[1])
        assert not desk.broker.account().uncertain_symbols


UNPRICED = dict.fromkeys(
    ("current_price", "market_value", "lastday_price", "avg_entry_price", "cost_basis")
)
WORTHLESS = {**UNPRICED, "current_price": "0", "market_value": "0"}


def without_price(symbol: str, fields: dict[str, Any]) -> Told:
    """What the venue says of a position once armed, without a word of what it is worth."""

    def changed(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [{**row, **fields} if row["symbol"] == symbol else row for row in rows]

    return Told(POSITIONS, changed)


@pytest.mark.first_example
@pytest.mark.parametrize("fields", [WORTHLESS, UNPRICED])
def test_unpriced_position_is_valued_at_its_last_trade(
    here: Practice, tmp_path: Path, fields: dict[str, Any]
) -> None:
    odd = without_price("SYA", fields)
    with attacked(here, tmp_path, odd, *SMALL) as desk:
        before = here.venue.broker.account()
        odd.answers = ALWAYS
        desk.job.step()
        account = desk.cycles[-1].account
        assert desk.cycles[-1].decision is not None
        assert account.positions["SYA"] == before.positions["SYA"]
        assert account.equity == pytest.approx(before.equity, rel=1e-3)
        assert halted_by(desk) == []


def unpriced_anywhere(desk: Desk, monkeypatch: pytest.MonkeyPatch, odd: str = "SYC") -> None:
    """Have the feed know no last trade of what is odd either."""
    ask = desk.live.feed.last_trades
    feed = lambda symbols: ask([symbol for symbol in symbols if symbol != odd])  # noqa: E731
    monkeypatch.setattr(desk.live.feed, "last_trades", feed)


@pytest.mark.parametrize(("words", "is_large"), [(SMALL, False), (WIDE, True)])
def test_only_a_large_unpriced_position_blocks_decisions(
    here: Practice,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    words: tuple[str, ...],
    is_large: bool,
) -> None:
    odd = without_price("SYA", UNPRICED)
    with attacked(here, tmp_path, odd, *words) as desk:
        unpriced_anywhere(desk, monkeypatch, "SYA")
        before = here.venue.broker.account()
        odd.answers = ALWAYS
        desk.job.step()
        cycle = desk.cycles[-1]
        assert (cycle.decision is None) == is_large
        assert ("SYA, last marked at" in cycle.idle_reason) == is_large
        assert cycle.account.positions["SYA"] == before.positions["SYA"]
        assert cycle.account.equity == pytest.approx(before.equity, rel=0.01)
        assert is_large or "SYA" not in ordered(desk)
        odd.answers = 0
        desk.step_at(CYCLES[1])
        assert desk.cycles[-1].decision is not None
        assert halted_by(desk) == [], "nothing was lost"


def test_symbol_without_any_price_is_quarantined_alone(
    here: Practice, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bought_elsewhere(here)
    odd = without_price("SYC", UNPRICED)
    odd.answers = ALWAYS
    with changed_answers(here, odd) as seen:
        desk = Desk.at(seen, tmp_path, *SMALL)
        unpriced_anywhere(desk, monkeypatch)
        desk.job.step()
        assert ordered(desk) == {"SYA", "SYB"}
        assert halted_by(desk) == []
        assert told(desk) == [
            "no price for 3 SYC: quarantined, valued at the last mark, or at 0 without one"
        ]


def test_unpriced_short_blocks_decisions_and_is_not_flattened(
    here: Practice, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    odd = without_price("SYC", UNPRICED)
    with attacked(here, tmp_path, odd, *SMALL) as desk:
        sold = {"symbol": "SYC", "qty": "3", "side": "sell", "client_order_id": "by-hand"}
        trading(here).post("/orders", {**sold, "type": "market", "time_in_force": "day"})
        here.advance(CYCLES[1])
        unpriced_anywhere(desk, monkeypatch)
        odd.answers = ALWAYS
        desk.job.step()
        cycle = desk.cycles[-1]
        assert cycle.decision is None
        assert "no price for 3 SYC, a short position that was never marked" in cycle.idle_reason
        desk.stop.flattening = True
        assert desk.job.finish(flatten=True) == []
    assert {*here.venue.broker.account().positions} == {"SYC"}


def strange_order(fields: dict[str, Any]) -> Told:
    """An order of nobody here among the open ones, with fields that nobody understands."""
    order = {"id": "v-1", "client_order_id": "odd", "symbol": "SYC", "side": "buy", "qty": "3"}
    order |= {"type": "market", "time_in_force": "day", "status": "new", "filled_qty": "0"}
    return Told("/v2/orders", lambda rows: [*rows, {**order, **fields}], ALWAYS)


@pytest.mark.parametrize(
    ("fields", "kind"),
    [
        ({"qty": None, "notional": "300"}, "symbols"),
        ({"qty": "0", "notional": "90000"}, "positions"),
        ({"side": "cross"}, "positions"),
    ],
)
def test_malformed_manual_order_halts_trading_while_cycles_continue(
    here: Practice, tmp_path: Path, fields: dict[str, Any], kind: str
) -> None:
    with changed_answers(here, strange_order(fields)) as seen:
        desk = Desk.at(seen, tmp_path, *SMALL)
        desk.job.step()
        assert halted_by(desk) == [kind]
        (text,) = told(desk)
        assert "(SYC): not in our journal" in text
        if kind == "symbols":
            assert ordered(desk) == {"SYA", "SYB"}
            return
        assert desk.cycles[-1].decision is None
        clear_halt(tmp_path / JOURNAL_FILE, "positions", "a person")
        desk.step_at(CYCLES[0])
        assert ordered(desk) == {"SYA", "SYB"}
        assert halted_by(desk) == []


def test_clear_acknowledges_only_discrepancies_that_still_match(
    desk: Desk, here: Practice, tmp_path: Path
) -> None:
    bought_by_hand(here)
    desk.job.step()
    assert halted_by(desk) == ["symbols"]
    sold = {"symbol": "SYA", "qty": "3", "side": "sell", "client_order_id": "back"}
    trading(here).post("/orders", {**sold, "type": "market", "time_in_force": "day"})
    clear_halt(tmp_path / JOURNAL_FILE, "symbols", "a person")
    desk.job.desk.read_and_record_mark()
    assert halted_by(desk) == [], "nobody has compared it since: it is neither taken nor told anew"
    desk.step_at(CYCLES[1])
    assert halted_by(desk) == []
    assert "SYA" in ordered(desk), "what was bought is gone, and nothing was taken over of it"
    desk.step_at(CYCLES[2])
    assert halted_by(desk) == []
    bought_by_hand(here)
    desk.step_at(CYCLES[3])
    assert halted_by(desk) == ["symbols"], "what was cleared counts once"


def test_clear_acknowledges_only_the_listed_discrepancies(
    desk: Desk, here: Practice, tmp_path: Path
) -> None:
    bought_by_hand(here)
    bought_elsewhere(here)
    desk.job.step()
    clear_halt(tmp_path / JOURNAL_FILE, "symbols", "a person")
    bought_elsewhere(here)
    desk.step_at(CYCLES[1])
    assert "SYA" in ordered(desk)
    assert halted_by(desk) == ["symbols"]
    assert "SYA" not in told(desk)[-1]
    assert "SYC: the venue holds 6, our journal expects 0" in told(desk)[-1]


def test_manual_trade_while_waiting_for_bars_is_detected(
    desk: Desk, here: Practice, monkeypatch: pytest.MonkeyPatch
) -> None:
    feed: Any = desk.live.feed

    def late_bars(*_: object) -> tuple[object, bool]:
        bought_by_hand(here)
        return feed.bars(here.venue.now), True

    monkeypatch.setattr("execution.live.cycle._await_bars", late_bars)
    desk.job.step()
    assert halted_by(desk) == ["symbols"]
    decision = desk.cycles[-1].decision
    assert decision is not None
    assert [choice.symbol for choice in decision.choices] == ["SYB"]


@pytest.mark.parametrize("compared", [True, False])
def test_flattening_leaves_symbols_that_a_person_has_traded(
    desk: Desk, here: Practice, compared: bool
) -> None:
    bought_by_hand(here)
    if compared:
        desk.job.step()
    desk.stop.flattening = True
    held = here.venue.broker.account().positions["SYA"]
    why = "quarantined until its discrepancy is resolved"
    assert desk.job.finish(flatten=True) == [f"{held:f} SYA ({why})"]
    assert here.venue.broker.account().positions == {"SYA": held}


def test_flattening_keeps_quarantined_positions_when_reconciliation_fails(
    desk: Desk, here: Practice, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bought_by_hand(here)
    desk.job.step()
    again = desk.again()
    monkeypatch.setattr(again.live, "reconcile", lambda: _refuse("the list makes no sense"))
    again.stop.flattening = True
    held = here.venue.broker.account().positions["SYA"]
    (left,) = again.job.finish(flatten=True)
    assert left.startswith(f"{held:f} SYA (")


def _refuse(why: str) -> None:
    raise BrokerError(why)


def test_unknown_options_consume_the_spread_risk_budget(desk: Desk) -> None:
    desk.live.reconciler._at_stake = DiscrepancyValue(
        option_usd_by_root={"SYC": Decimal(700), "SYD": Decimal("Infinity")}
    )
    desk.live.spread_risk_by_job |= {"one": {"SYC": 150.0}, "other": {"SYC": 50.0}}
    snapshot = desk.live.with_guard_data(desk.broker.account(), ())
    assert snapshot.max_loss_by_root == {"SYC": 900.0}, "what nobody can bound halts the account"
    assert desk.live.with_guard_data(snapshot, (), max_loss_by_root={}).max_loss_by_root == {
        "SYC": 700.0
    }
    desk.live.reconciler._unknown_orders = [
        UnmodelledOrder("by-hand", "options on SYC", Decimal(50))
    ]
    assert (
        sum(desk.live.with_guard_data(snapshot, (), max_loss_by_root={}).max_loss_by_root.values())
        == 750.0
    )
