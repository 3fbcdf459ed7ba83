"""Guards: what is not sent, and that what reduces a position is hardly ever kept back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from decimal import Decimal
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from execution.journal.commands import CommandJournal
from execution.journal.events import EventLog
from execution.journal.halts import HALT_RULES, HaltJournal, HaltKind
from execution.journal.order_store import OrderIntent, OrderProgress, OrderState, OrderStore
from execution.live.account_lock import KILL_FILE
from execution.live.exposure import open_order_prices
from execution.live.guards import Guards, GuardSettings
from execution.live.loop import StopSignal
from execution.orders.account_snapshot import AccountSnapshot
from execution.orders.event_contract_orders import EventContractOrder
from execution.orders.gate import OrderRole
from execution.orders.last_trades import fetch_last_prices
from execution.orders.option_orders import OptionLeg, SpreadOrder, parse_occ_symbol
from execution.orders.orders import Order
from foundation.clock import TimeSource
from foundation.database import Database
from foundation.errors import BrokerError
from tests.support.connections import open_for_test
from trainingdata.last_trade import LastTrade

NOW = np.datetime64("2024-03-05T17:30", "ns")  # a Tuesday, 12:30 in New York
NIGHT = np.datetime64("2024-03-05T23:30", "ns")
SECOND = np.timedelta64(1, "s")
PRICES = {"NVDA": 100.0, "MSFT": 50.0, "BTCUSD": 1000.0}
REDUCTIONS: tuple[OrderRole, ...] = ("reduction", "night")
OPENINGS: tuple[OrderRole, ...] = ("", "opening")
WIDE = GuardSettings(max_position=10, max_gross=10, max_order=1e9)

CONTRACTS = EventContractOrder("a", "RAIN", "BUY", "YES", Decimal("0.5"), Decimal(1))
CONDOR = ("P90 buy", "P95 sell", "C105 sell", "C115 buy")


def seen(
    equity: float = 10_000.0,
    positions: Mapping[str, str] | None = None,
    trades: Mapping[str, LastTrade] | None = None,
    open_orders: tuple[Order, ...] = (),
    at_risk: Mapping[str, float] | None = None,
    prices: Mapping[str, float] = PRICES,
) -> AccountSnapshot:
    """An account of this equity; last trades are of now, at the prices of the sizing."""
    held = {symbol: Decimal(quantity) for symbol, quantity in (positions or {}).items()}
    worth = sum(float(quantity) * prices[symbol] for symbol, quantity in held.items())
    if trades is None:
        trades = {symbol: LastTrade(price, NOW) for symbol, price in prices.items()}
    return AccountSnapshot(
        equity - worth,
        held,
        prices,
        NOW,
        open_orders=open_orders,
        last_trades=trades,
        max_loss_by_root=at_risk or {},
    )


def intent(
    name: str = "a",
    symbol: str = "NVDA",
    side: str = "buy",
    qty: object = "1",
    part: OrderRole = "opening",
    *,
    job: str = "trade",
    **prices: object,
) -> OrderIntent:
    kind = "stop_limit" if "stop_price" in prices else "limit" if prices else "market"
    words = {key: float(str(price)) for key, price in prices.items()}
    order = Order(name, symbol, side, Decimal(str(qty)), "so", type=kind, **words)  # type: ignore[arg-type]
    return OrderIntent(order, NOW, job=job, role=part)


def side_of(quantity: int) -> Any:
    return "buy" if quantity > 0 else "sell"


def spread(
    *legs: str, name: str = "s", qty: object = 1, part: OrderRole = "opening"
) -> OrderIntent:
    """An order of legs that are written as `P95 sell`; `SPY:` before one is its root."""
    entries = list[OptionLeg]()
    for leg in legs:
        option, side = leg.split()
        root, _, option = option.rpartition(":")
        symbol = f"{root or 'SPXW'}240305{option[0]}{int(option[1:]) * 1000:08d}"
        entries.append(OptionLeg(parse_occ_symbol(symbol), side))  # type: ignore[arg-type]
    order = SpreadOrder(name, tuple(entries), int(str(qty)))
    return OrderIntent(order, NOW, job="spreads", role=part)


def undone(*legs: str) -> tuple[str, ...]:
    return tuple(
        leg.replace("buy", "x").replace("sell", "buy").replace("x", "sell") for leg in legs
    )


@dataclass
class Desk:
    """Guards, and what they judge by."""

    settings: GuardSettings = field(default_factory=GuardSettings)
    kill_file: Path = Path("nowhere") / KILL_FILE
    database: Database = field(default_factory=open_for_test)
    snapshot: AccountSnapshot | None = None

    def __post_init__(self) -> None:
        events = EventLog(self.database, clock=TimeSource(now=lambda: NOW))
        self.book = OrderStore(self.database, events)
        self.halts = HaltJournal(self.database, events)
        self.stop = StopSignal()
        commands = CommandJournal(self.database, events)
        self.guards = Guards(
            self.settings, self.halts, self.book, commands, self.kill_file, self.stop
        )
        self.gate = self.guards.build_gate(self.snapshot)

    def judge(self, one: OrderIntent, now: np.datetime64) -> str:
        if self.gate.snapshot is not self.snapshot:
            self.gate = self.guards.build_gate(self.snapshot)
        return self.gate.refusal_reason(one.order, one.role, now)

    def send(self, one: OrderIntent, now: np.datetime64 = NOW) -> str:
        """As an outbox does it: judged, and recorded or denied."""
        why = self.judge(one, now)
        if why:
            self.book.deny(one, why)
        else:
            self.book.record_submission(replace(one, state="submitting", sent_at=now))
        return why


def judged(
    one: OrderIntent,
    snapshot: AccountSnapshot | None = None,
    now: np.datetime64 = NOW,
    **bounds: Any,
) -> str:
    """What guards say of one intent."""
    desk = Desk(GuardSettings(**bounds), snapshot=seen() if snapshot is None else snapshot)
    return desk.judge(one, now)


# What may happen to an account, one thing after the other.

quantities = st.integers(1, 80)
symbols = st.sampled_from(tuple(PRICES))
events = st.one_of(
    st.tuples(st.just("open"), symbols, st.sampled_from(("buy", "sell")), quantities),
    st.tuples(st.just("reduce"), symbols, st.just(""), quantities),
    st.tuples(st.sampled_from(("fill", "cancel", "reject")), st.just(""), st.just(""), quantities),
    st.tuples(st.just("read"), st.just(""), st.just(""), st.just(1)),
)


class Market:
    """An account at a venue: orders fill as the test says, and it is seen when the test says."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self.held = dict.fromkeys(PRICES, Decimal(0))
        self.working: dict[str, tuple[str, Decimal]] = {}
        self.names = map(str, count())
        self.read()

    def read(self) -> None:
        orders = tuple(
            Order(name, symbol, "buy" if left > 0 else "sell", abs(left), "test")
            for name, (symbol, left) in self.working.items()
        )
        positions = {symbol: str(held) for symbol, held in self.held.items()}
        self.desk.snapshot = seen(positions=positions, open_orders=orders)

    def order(self, symbol: str, signed: Decimal, part: OrderRole) -> str:
        name = next(self.names)
        side = "buy" if signed > 0 else "sell"
        why = self.desk.send(intent(name, symbol, side, abs(signed), part))
        if not why:
            self.working[name] = (symbol, signed)
        return why

    def reduce(self, symbol: str, quantity: int) -> None:
        """Reduce what is held and not yet on its way out."""
        held = self.held[symbol]
        waiting = [left for each, left in self.working.values() if each == symbol]
        left = sum((each for each in waiting if each * held < 0), Decimal(0))
        free = min(abs(held) - abs(left), Decimal(quantity))
        if free > 0:
            assert self.order(symbol, -free.copy_sign(held), "reduction") == ""

    def end(self, how: str, quantity: int) -> None:
        """The oldest order fills by as much, is cancelled after a part, or was rejected."""
        if not self.working:
            return
        name, (symbol, left) = next(iter(self.working.items()))
        if how == "reject":
            known = self.desk.book.get(name)
            assert known is not None
            if known.state == "submitting":
                del self.working[name]
                self.desk.book.set_state(name, "rejected", "no")
            return
        part = min(Decimal(quantity), abs(left)).copy_sign(left)
        self.held[symbol] += part
        state: OrderState = "canceled" if how == "cancel" else "accepted"
        if part == left:
            state = "filled"
        known = self.desk.book.get(name)
        assert known is not None
        filled = known.progress.filled + abs(part)
        self.desk.book.record_progress(name, OrderProgress(state, f"v{name}", filled, Decimal(1)))
        if state == "accepted":
            self.working[name] = (symbol, left - part)
        else:
            del self.working[name]

    def largest(self, symbol: str) -> float:
        """The largest size of a position, whichever orders fill whole."""
        waiting = [left for each, left in self.working.values() if each == symbol]
        ends = (
            self.held[symbol] + sum(left for left in waiting if (left > 0) == bought)
            for bought in (True, False)
        )
        return max(abs(float(end)) for end in ends) * PRICES[symbol]


@given(st.lists(events, max_size=14))
def test_accepted_orders_never_exceed_position_or_gross_limits(
    path: list[tuple[str, str, str, int]],
) -> None:
    market = Market(Desk(GuardSettings(max_position=0.6, max_gross=1.0)))
    for what, symbol, side, quantity in path:
        if what == "open":
            market.order(symbol, Decimal(quantity if side == "buy" else -quantity), "opening")
        elif what == "reduce":
            market.reduce(symbol, quantity)
        elif what == "read":
            market.read()
        else:
            market.end(what, quantity)
        sizes = [market.largest(symbol) for symbol in PRICES]
        assert max(sizes) <= 6_000
        assert sum(sizes) <= 10_000


shares = st.integers(-80, 80)


@given(shares, shares, shares, shares.filter(bool), st.sampled_from([None, 90, 105]))
def test_opening_order_is_accepted_only_within_every_limit(
    held: int, open_already: int, other: int, quantity: int, limit: int | None
) -> None:
    """An order counts at the higher of its limit and last trade, and an open order may fill or not.
    A position that prices have moved beyond a limit may be reduced.
    """
    waits = replace(
        intent("w", qty=abs(open_already) or 1).stock_or_crypto_order, side=side_of(open_already)
    )
    positions = {"NVDA": str(held), "MSFT": str(other)}
    snapshot = seen(positions=positions, open_orders=(waits,) if open_already else ())
    priced = partial(intent, limit_price=limit) if limit else intent
    why = judged(
        priced(qty=abs(quantity), side=side_of(quantity)),
        snapshot,
        max_position=0.6,
        max_gross=0.9,
        max_order=7_000,
    )
    before, after = (
        100 * max(held + sum(max(q, 0) for q in orders), -held - sum(min(q, 0) for q in orders))
        for orders in ([open_already], [open_already, quantity])
    )
    fits = (after <= before or (after <= 6_000 and after + 50 * abs(other) <= 9_000)) and abs(
        quantity
    ) * max(100, limit or 0) <= 7_000
    assert (why == "") == fits


@given(
    part=st.sampled_from(REDUCTIONS),
    side=st.sampled_from(("buy", "sell")),
    qty=st.integers(1, 10_000),
    equity=st.floats(-1e6, 1e6),
    age=st.integers(-(10**6), 10**6),
    last=st.floats(1e-3, 1e6),
    standing=st.sets(
        st.sampled_from(
            [kind for kind, rule in HALT_RULES.items() if rule.forbidden_scope == "openings"]
        )
    ),
    blind=st.booleans(),
)
def test_reductions_are_never_blocked_by_limits(
    part: OrderRole,
    side: str,
    qty: int,
    equity: float,
    age: int,
    last: float,
    standing: set[HaltKind],
    blind: bool,
) -> None:
    desk = Desk(GuardSettings(max_orders_per_hour=1, max_order=1, max_position=0.01))
    desk.book.record_submission(intent("earlier"))
    for kind in standing:
        desk.halts.raise_halt(kind, "because", NOW)
    if not blind:
        trades = {"NVDA": LastTrade(last, NOW - age * SECOND)}
        desk.snapshot = seen(equity, {"NVDA": "3"}, trades)
    assert desk.send(intent("cut", side=side, qty=qty, part=part)) == ""
    assert desk.send(spread(*CONDOR, qty=qty, part=part)) == ""


every_part = pytest.mark.parametrize("part", [*OPENINGS, *REDUCTIONS])


@every_part
@pytest.mark.parametrize("kind", [each for each in HALT_RULES if each not in ("symbols", "exited")])
def test_each_halt_blocks_its_forbidden_orders_until_cleared(
    kind: HaltKind, part: OrderRole
) -> None:
    desk = Desk(snapshot=seen())
    desk.halts.raise_halt(kind, "because", NOW)
    stops = HALT_RULES[kind].forbidden_scope == "everything" or part in OPENINGS
    expected = f"halted: {kind} since 2024-03-05T17:30Z: because" if stops else ""
    assert desk.judge(intent(part=part), NOW) == expected
    desk.halts.clear(kind, "Ada", NOW)
    assert desk.judge(intent(part=part), NOW) == ""


@every_part
def test_orders_are_blocked_only_in_quarantined_symbols(part: OrderRole) -> None:
    desk = Desk(snapshot=seen())
    desk.halts.raise_halt("symbols", "NVDA is 3", NOW, cause='{"NVDA": ["2"]}')
    assert (
        desk.judge(intent(part=part), NOW)
        == "NVDA is quarantined until its discrepancy is resolved"
    )
    assert desk.judge(intent(symbol="BTCUSD", part=part), NOW) == ""
    assert desk.judge(spread(*CONDOR, part=part), NOW) == ""
    desk.halts.clear("symbols", "Ada", NOW)
    assert desk.judge(intent(part=part), NOW) == ""


@every_part
@pytest.mark.parametrize("at", [NOW, NIGHT])
def test_stock_orders_are_refused_while_exchange_is_closed(
    part: OrderRole, at: np.datetime64
) -> None:
    """Only within the calendar's session; crypto orders and closing spread orders are sent."""
    desk = Desk(snapshot=seen())
    desk.guards.exchange_closed = True
    closed = "the venue's clock reports the exchange closed; the order would wait for the open"
    in_hours = at == NOW
    assert (desk.judge(intent(part=part), at) == closed) == in_hours
    assert desk.judge(intent(symbol="BTCUSD", part=part), at) != closed
    opens = part in OPENINGS
    assert (desk.judge(spread(*CONDOR, part=part), at) == closed) == (in_hours and opens)


@every_part
def test_nothing_is_sent_while_the_kill_file_exists(tmp_path: Path, part: OrderRole) -> None:
    path = tmp_path / "account" / KILL_FILE
    desk = Desk(kill_file=path, snapshot=seen())
    assert desk.judge(intent(part=part), NOW) == "", "there is no such folder yet"
    path.parent.mkdir()
    path.touch()
    assert desk.judge(intent(part=part), NOW) == (
        f"the kill file {path} exists; remove it to send orders"
    )
    path.unlink()
    assert desk.judge(intent(part=part), NOW) == ""
    path.symlink_to(tmp_path / "nothing")
    assert desk.judge(intent(part=part), NOW) != "", "a link that leads nowhere is there"


@pytest.mark.parametrize(
    ("side", "limit", "passes"),
    [
        *(("buy", limit, limit < 110.005) for limit in (110, 110.01, 1)),
        *(("sell", limit, limit > 89.995) for limit in (90, 89.99, 10_000)),
    ],
)
@every_part
def test_limit_price_collar_applies_only_to_worse_prices(
    side: str, limit: float, passes: bool, part: OrderRole
) -> None:
    worst = 110 if side == "buy" else 90
    why = f"limit price {limit:g} is beyond {worst}; guards.price_collar is 0.1 of 100"
    found = judged(intent(side=side, part=part, limit_price=limit))
    assert found == ("" if passes else why)


def traded(
    symbol: str, price: float = 100.0, age: int = 0, at: np.datetime64 = NOW
) -> AccountSnapshot:
    """A sight in which one symbol alone was traded, some seconds before an instant."""
    return seen(trades={symbol: LastTrade(price, at - age * SECOND)})


SOLD_LOW = intent(side="sell", part="reduction", limit_price="50")
STOP = partial(intent, side="sell", stop_price="70")
UNSIZED = seen(prices={}, trades={"NVDA": LastTrade(100, NOW)})
OLD = "s old; guards.max_trade_age is 900 s"
COLLAR = "guards.price_collar"
FAR = "guards.price_collar is 0.1"
OVER = seen(positions={"NVDA": "90", "MSFT": "-100"})
SAME = {s: LastTrade(100.0, NOW) for s in PRICES}
STRANGE = seen(open_orders=(Order("w", "TSLA", "buy", Decimal(1), "by somebody else"),))
NAN = replace(
    seen(positions={"NVDA": "1"}, trades={"MSFT": LastTrade(50.0, NOW)}),
    prices={**PRICES, "MSFT": float("nan")},
)
PUT = ("P95 sell", "P90 buy")
RISKY = seen(at_risk={"SPXW": 5_000, "SPY": 1_000})
BESIDE = seen(positions={"NVDA": "40"}, at_risk={"SPXW": 5_000})
SIZED = replace(seen(at_risk={"SPXW": 1_000}), spread_capital_usd=4_000.0)
LEAST = "above guards.max_position, 0.75"


@pytest.mark.parametrize(
    ("one", "snapshot", "why", "bounds"),
    [
        # An old trade, or none, says nothing of the limit of a reduction.
        (SOLD_LOW, traded("NVDA", age=900), "limit price 50.0 is beyond 90", {}),
        (SOLD_LOW, traded("NVDA", age=-900), "limit price 50.0 is beyond 90", {}),
        (SOLD_LOW, traded("NVDA", age=901), "", {}),
        (replace(SOLD_LOW, role="night"), traded("NVDA", age=901), "", {}),
        (SOLD_LOW, seen(trades={}), "", {}),
        # A stop-limit is measured from its stop.
        *((STOP(part=part, limit_price="63"), None, "", {}) for part in ("opening", "reduction")),
        *(
            (STOP(part=part, limit_price="62.9"), None, f"beyond 63; {COLLAR} is 0.1 of 70", {})
            for part in ("opening", "reduction")
        ),
        # A market order is sized near the last trade.
        *((intent(), traded("NVDA", price), "", {}) for price in (110, 90)),
        *((intent(), traded("NVDA", price), FAR, {}) for price in (110.1, 89.9)),
        *((intent(part="reduction"), traded("NVDA", price), "", {}) for price in (110.1, 89.9)),
        (intent(), UNSIZED, "the price at which NVDA was sized is unknown", {}),
        (intent(limit_price=100), UNSIZED, "", {}),
        (intent(), seen(trades={}), "the feed has no last trade of NVDA", {}),
        (
            intent(symbol="MSFT"),
            NAN,
            "too far from the price at which the order was sized, nan",
            {},
        ),
        (intent(), STRANGE, "no price for TSLA, in which there is a position or an order", {}),
        (intent(qty="10.01"), None, "order value 1,001 USD exceeds guards.max_order, 1,000 USD",
         {"max_order": 1_000}),
        (intent(qty=1), OVER, f"NVDA would be 0.91 of equity, {LEAST}", {}),
        (intent(symbol="MSFT", qty=1, side="sell"), OVER,
         "gross exposure would be 1.41 of equity, above guards.max_gross, 1.4", {"max_gross": 1.4}),
        # What has no last trade counts at the price that it was sized at.
        (intent(qty=50), seen(positions={"MSFT": "100"}, trades={"NVDA": SAME["NVDA"]}), "",
         {"max_gross": 1}),
        (intent(qty=51), seen(positions={"MSFT": "100"}, trades={"NVDA": SAME["NVDA"]}),
         "would be 1.01 of", {"max_gross": 1}),
        (intent(qty=50), seen(positions={"MSFT": "100"}, trades=SAME), "would be 1.5 of",
         {"max_gross": 1}),
        # Without equity nothing is opened.
        *((one, seen(equity), "opening orders need positive equity", {})
          for one in (intent(), spread(*CONDOR)) for equity in (0.0, -5.0)),
        # An account of less than a dollar has the same limits.
        (intent(qty="0.006"), seen(0.8), "", {}),
        (intent(qty="0.0061"), seen(0.8), "NVDA would be 0.762 of equity", {}),
        # The maximum loss of spreads counts toward every limit.
        (spread(*PUT, qty=15), None, "", {}),
        (spread(*PUT, qty=16), None, "spreads on SPXW would be 0.8 of equity", {}),
        (spread(*PUT, qty=3), None, "", {"max_order": 1_500}),
        (spread(*PUT, qty=4), None, "order value 2,000 USD", {"max_order": 1_500}),
        (spread("C105 sell", "P95 sell"), None, "order value inf USD", {}),
        (spread("P95 sell", "P90 sell"), None, "order value 18,500 USD", {"max_order": 9_000}),
        (spread(*CONDOR, qty=3), None, "order value 3,000 USD", {"max_order": 2_999}),
        (spread(*PUT, qty=5), RISKY, "", {}),
        (spread(*PUT, qty=6), RISKY, "SPXW would be 0.8", {}),
        (intent(qty=20), BESIDE, "", {"max_gross": 1.1}),
        (intent(qty=21), BESIDE, "would be 1.11", {"max_gross": 1.1}),
        # It is a share of what they are sized from, where that is less.
        (spread(*PUT, qty=4), SIZED, "", {}),
        (spread(*PUT, qty=5), SIZED, f"0.875 of the spread balance of 4,000.00 USD, {LEAST}", {}),
        (spread(*PUT, qty=14), replace(SIZED, spread_capital_usd=20_000.0), "0.8 of equity", {}),
        (
            spread(*PUT, qty=1),
            replace(SIZED, spread_capital_usd=0.0),
            "inf of the spread balance",
            {},
        ),
        (intent(qty=70), SIZED, "", {}),
        (replace(intent(), order=CONTRACTS), None, "does not trade event contracts", {}),
    ],
)  # fmt: skip
def test_guards_accept_orders_up_to_exactly_the_limit(
    one: OrderIntent, snapshot: AccountSnapshot | None, why: str, bounds: dict[str, float]
) -> None:
    found = judged(one, snapshot, **bounds)
    assert why in found
    assert bool(found) is bool(why)


@pytest.mark.parametrize(
    ("symbol", "at", "age", "passes"),
    [
        *(("NVDA", NOW, age, age == 900) for age in (900, 901, -901)),
        ("NVDA", NIGHT, 10_000, True),
        *(("BTCUSD", NIGHT, age, age == 900) for age in (900, 901)),
    ],
)
def test_stale_last_trade_blocks_openings_during_market_hours(
    symbol: str, at: np.datetime64, age: int, passes: bool
) -> None:
    snapshot = traded(symbol, PRICES[symbol], age, at)
    why = "" if passes else f"the last trade of {symbol} is {age} {OLD}"
    assert judged(intent(symbol=symbol), snapshot, at) == why
    assert judged(intent(symbol=symbol, part="night"), snapshot, at) == ""


@pytest.mark.parametrize("one", [intent(), spread(*CONDOR)])
def test_opening_orders_need_an_account_snapshot(one: OrderIntent) -> None:
    assert Desk().judge(one, NOW) == "the account was not read before this opening order"


def test_opening_orders_need_last_trade_and_spread_risk() -> None:
    unpriced = replace(seen(), last_trades=None)
    assert judged(intent(), unpriced) == "the feed has no last trade of NVDA"
    assert judged(intent(part="reduction"), unpriced) == ""
    unread = replace(seen(), max_loss_by_root=None)
    for one in (intent(), spread(*CONDOR)):
        assert judged(one, unread) == "the maximum loss of open spreads is unknown"
    assert judged(intent(part="reduction"), unread) == ""


def test_hourly_order_limit_counts_all_jobs_across_restarts(tmp_path: Path) -> None:
    bounds = GuardSettings(max_orders_per_hour=3, max_trade_age=7_200)
    minute, hour = np.timedelta64(1, "m"), np.timedelta64(1, "h")
    with closing(Database(tmp_path / "journal")) as database:
        desk = Desk(bounds, database=database, snapshot=seen())
        desk.book.record_plan(intent("planned"))
        desk.book.deny(intent("denied"), "because")
        assert desk.send(intent("1"), NOW - minute) == ""
        desk.book.set_state("1", "rejected", "no")
        assert desk.send(intent("2", part="reduction", job="other"), NOW - minute) == ""
        assert desk.send(intent("3"), NOW - SECOND) == ""
    with closing(Database(tmp_path / "journal")) as database:
        again = Desk(bounds, database=database, snapshot=seen())
        full = "3 orders were sent in the last hour; guards.max_orders_per_hour is 3"
        for one, at in ((intent("4"), NOW), (spread(*CONDOR), NOW)):
            assert again.judge(one, at) == full
        assert again.judge(intent("4"), NOW - minute + hour - SECOND) == full
        assert again.judge(intent("3"), NOW) == "", "it is one of the three"
        assert again.judge(intent("5", part="reduction"), NOW) == ""
        again.snapshot = traded("NVDA", at=NOW + hour)
        assert again.judge(intent("4"), NOW - minute + hour) == "", "two have left the hour"


def test_limits_count_resent_orders_once_denied_ones_never() -> None:
    desk = Desk(snapshot=seen())
    said = [desk.judge(intent(name, qty=50), NOW) for name in "wxyz"]
    assert said.count("") == 1, "of those that are judged by one snapshot"
    desk = Desk(snapshot=seen())
    assert desk.send(intent("a", qty=50)) == ""
    # After a restart it is among the open orders of the account.
    waiting = Order("a", "NVDA", "buy", Decimal(50), "test")
    for snapshot in (desk.snapshot, seen(open_orders=(waiting,))):
        desk.snapshot = snapshot
        assert desk.judge(intent("a", qty=50), NOW) == ""
        assert "would be 1 of equity" in desk.judge(intent("b", qty=50), NOW)
    desk = Desk(snapshot=seen())
    assert desk.send(intent("a", qty=50)) == ""
    desk.book.set_state("a", "denied", "too late")
    assert desk.judge(intent("b", qty=50), NOW) == ""


def test_stopped_loop_sends_only_flattening_orders(tmp_path: Path) -> None:
    desk = Desk(kill_file=tmp_path / KILL_FILE, snapshot=seen())
    desk.stop.request_stop("SIGTERM")
    for part in ("opening", "reduction", "night"):
        assert desk.judge(intent(part=part), NOW) == "the loop is stopping (SIGTERM)"
    desk.kill_file.touch()
    desk.stop.flattening = True
    said = {part: desk.judge(intent(part=part), NOW) for part in ("opening", "reduction", "night")}
    assert said == {"opening": "all positions are being closed", "reduction": "", "night": ""}


@pytest.mark.parametrize("kind", get_args(HaltKind))
def test_short_options_are_bought_back_under_most_halts(kind: HaltKind, tmp_path: Path) -> None:
    desk = Desk(kill_file=tmp_path / KILL_FILE)
    desk.halts.raise_halt(kind, "because", NOW, cause="{}")
    closing = spread(*undone(*CONDOR), part="reduction")
    back = replace(closing, order=replace(closing.order, reduces=True))  # type: ignore[type-var]
    assert bool(desk.judge(back, NOW)) == (kind == "journal")
    for other in ("positions", "cash"):
        if other != kind:
            desk.halts.raise_halt(other, "because", NOW, cause="{}")
    assert bool(desk.judge(back, NOW)) == (kind == "journal"), "beside both, too"
    opening = spread(*CONDOR)
    assert desk.judge(opening, NOW), "nothing is opened"
    still_owing = replace(opening, order=replace(opening.order, reduces=True))  # type: ignore[type-var]
    if kind in ("positions", "cash", "journal"):
        assert desk.judge(replace(still_owing, role="reduction"), NOW), "it would owe more"
    desk.kill_file.touch()
    assert desk.judge(back, NOW), "the kill file stops everything"


def test_sent_spread_orders_consume_limits_until_they_end() -> None:
    desk = Desk(snapshot=seen())
    assert desk.send(spread(*PUT, qty=10, name="a")) == ""
    assert "would be 1 of" in desk.judge(spread(*PUT, qty=10, name="b"), NOW)
    assert desk.send(spread(*undone(*PUT), qty=10, name="c", part="reduction")) == ""
    assert "would be 1 of" in desk.judge(spread(*PUT, qty=10, name="b"), NOW)
    desk.book.record_progress("a", OrderProgress("canceled", "v", Decimal(5)))
    assert desk.judge(spread(*PUT, qty=10, name="b"), NOW) == ""
    assert "would be 0.8 of" in desk.judge(spread(*PUT, qty=11, name="b"), NOW)
    desk.snapshot = seen()
    assert desk.send(spread(*PUT, qty=10, name="d")) == ""
    desk.book.record_progress("d", OrderProgress("canceled", "w"))
    assert desk.judge(spread(*PUT, qty=15, name="e"), NOW) == ""


@dataclass
class Feed:
    """A feed of last trades, of all symbols but one, and what it was asked."""

    asked: list[Sequence[str]] = field(default_factory=list)

    def last_trades(self, symbols: Sequence[str]) -> dict[str, LastTrade]:
        self.asked.append(symbols)
        return {name: LastTrade(30.0, NOW) for name in symbols if name != "GONE"}


class Silent:
    """A feed that does not answer."""

    def last_trades(self, symbols: Sequence[str]) -> dict[str, LastTrade]:
        raise BrokerError("no answer")


def test_open_order_value_uses_limit_or_last_trade() -> None:
    trades, silent = Feed(), Silent()
    asked = trades.asked
    limited = intent(symbol="AAA", limit_price=7).stock_or_crypto_order
    stopped = replace(intent(symbol="BBB").stock_or_crypto_order, type="stop", stop_price=8.0)
    at_market = [
        intent(symbol=name).stock_or_crypto_order for name in ("CCC", "GONE", "NVDA", "?BRK_B")
    ]
    account = seen(open_orders=(limited, stopped, *at_market))
    assert open_order_prices(account, trades) == {"AAA": 7.0, "BBB": 8.0, "CCC": 30.0}
    assert asked == [["CCC", "GONE"]]
    assert open_order_prices(seen(open_orders=(limited,)), trades) == {"AAA": 7.0}
    assert fetch_last_prices(trades, {"CCC", "?BRK_B", "GONE"}) == {"CCC": 30.0}
    assert fetch_last_prices(trades, {"?BRK_B"}) == fetch_last_prices(silent, {"NVDA"}) == {}
    assert len(asked) == 2, "where nothing is missing, nobody is asked"


def test_gate_prices_are_those_of_its_snapshot() -> None:
    assert Desk().gate.prices == {}
    account = seen()
    assert Desk(snapshot=account).gate.prices == account.market_prices != {}


def test_fills_since_the_snapshot_count_as_positions() -> None:
    desk = Desk(replace(WIDE, max_position=0.75), snapshot=seen())
    assert desk.send(intent("long", qty=50)) == ""
    desk.book.record_progress("long", OrderProgress("accepted", "v", Decimal(20), Decimal(100)))
    assert desk.judge(intent("more", qty=25), NOW) == ""
    assert "would be 0.76" in desk.judge(intent("more", qty=26), NOW)
    desk.snapshot = seen()
    assert desk.send(intent("long-again", qty=50)) == ""
    desk.book.record_progress("long-again", OrderProgress("filled", "w", Decimal(50), Decimal(100)))
    assert "would be 0.76" in desk.judge(intent("short", side="sell", qty=126), NOW)
    assert desk.judge(intent("short", side="sell", qty=125), NOW) == ""
    assert "would be 0.76" in desk.judge(intent("long-after-all", qty=26), NOW)
