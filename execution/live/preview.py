"""The next decision without its orders: from the venue, or for an account that the user states."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from omegaconf import DictConfig

from execution.brokers import BrokerConnection, Gateway, create_broker_connection
from execution.decision.choice import format_no_order_reason
from execution.decision.trader import Trader
from execution.journal.cooldown import read_cooling_symbols
from execution.journal.decisions import read_highest_equity
from execution.journal.events import EventLog
from execution.journal.evidence import read_last_evidence
from execution.journal.halts import HaltJournal
from execution.journal.orders import encode_order
from execution.journal.refusals import read_active_refusals
from execution.journal.schema import open_journal_for_reading
from execution.live.account_lock import JOURNAL_FILE, KILL_FILE, may_exist
from execution.live.accounts import TRADE_JOB
from execution.live.asset_check import refuse_unlisted_symbols
from execution.live.cycle import (
    Cycle,
    next_decision_instant,
    no_decision_reason,
    run_decision_cycle,
)
from execution.live.cycle_report import (
    log_cycle,
    print_cycle,
    print_symbols_without_decision,
    print_symbols_without_order,
)
from execution.live.loop import print_line
from execution.live.settings import LiveSettings
from execution.live.undecided import undecided_reasons
from execution.orders.account_snapshot import AccountSnapshot
from execution.orders.broker import Asset
from execution.orders.gate import ALLOW_ALL_ORDERS, OrderGate
from execution.orders.orders import Fill, Order
from execution.orders.venue_rules import VenueRules
from foundation.cli import Result
from foundation.console import tolerate_print_errors
from foundation.errors import InputError
from trainingdata.bars import last_closes_by_symbol
from trainingdata.feed.bar_feed import BarFeed
from trainingdata.feed.endpoint import ApiKeys
from trainingdata.instants import format_utc
from trainingdata.instruments import instrument


def run_dry_cycle(settings: LiveSettings, positions: Mapping[str, Decimal]) -> Cycle:
    """Decide once from bar files, for an account with the configured capital and these positions.

    positions: signed quantity by symbol.

    Raises InputError for a position in a symbol without bars, because it has no price.
    """
    bars = settings.load_bars()
    prices = last_closes_by_symbol(bars)
    unpriced = [symbol for symbol in positions if symbol not in prices]
    if unpriced:
        raise InputError(f"positions.{unpriced[0]}: no price without bars; add the symbol's bars")
    lent = settings.margin.leverage
    account = AccountSnapshot(
        settings.capital, positions, prices, bars.last_instant, max_leverage=lent
    )
    trader = settings.build_trader(settings.forecaster.build(bars.symbols))
    decision = trader.decide(settings.data.build_market(bars).visible_bars(), account)
    return Cycle(
        account, bars, decision, idle_reason="" if decision else no_decision_reason(settings)
    )


def read_positions(config: DictConfig) -> dict[str, Decimal]:
    """Return the signed quantities by symbol from the setting `positions`."""
    positions: dict[str, Decimal] = {}
    for symbol, given in config.positions.items():
        item = instrument(str(symbol))
        try:
            quantity = Decimal(str(given))
        except InvalidOperation:
            raise InputError(f"positions.{symbol}: {given!r} is not a number") from None
        if not quantity.is_finite():
            raise InputError(f"positions.{symbol}: {given} is not a finite number of units")
        if quantity < 0 and not item.is_shortable:
            raise InputError(
                f"positions.{symbol}: {given} is a short position, which crypto does not allow;"
                " give 0 or more"
            )
        if item.symbol in positions:
            raise InputError(f"positions.{symbol}: {item.symbol} is listed twice; list it once")
        positions[item.symbol] = quantity
    return positions


class JournaledState(NamedTuple):
    """State of an account's loop that its next decision depends on.

    blockers: reasons why the loop would send no orders, one line each.
    quarantined_symbols: symbols that the journal has quarantined.
    cooling_symbols: symbols that are not opened now because their stop has filled.
    peak_equity: highest equity at an earlier decision, USD; 0 before the first.
    evidence_state: evidence for the forecast after the last decision, JSON; None before the first.
    """

    blockers: list[str]
    quarantined_symbols: frozenset[str] = frozenset()
    cooling_symbols: frozenset[str] = frozenset()
    peak_equity: float = 0.0
    evidence_state: str | None = None


class PreviewBroker:
    """A read-only broker for previews.

    As in the live loop, quarantined symbols are reported as untradable.

    gateway: connection to the venue.
    state: the state of the loop in its journal.
    """

    def __init__(self, gateway: Gateway, state: JournaledState) -> None:
        self._gateway = gateway
        self._state = state

    def account(self) -> AccountSnapshot:
        account = self._gateway.account()
        return replace(
            account,
            uncertain_symbols=account.uncertain_symbols | self._state.quarantined_symbols,
            cooling_symbols=self._state.cooling_symbols,
        )

    def now(self) -> np.datetime64:
        return self._gateway.now()

    def assets(self, symbols: Sequence[str]) -> Mapping[str, Asset]:
        return self._gateway.assets(symbols)

    def submit(self, orders: Sequence[Order], gate: OrderGate = ALLOW_ALL_ORDERS) -> list[Fill]:
        raise InputError(f"{len(orders)} orders not sent: a preview sends no orders")

    def cancel(self, client_order_ids: Iterable[str]) -> Mapping[str, Decimal]:
        raise InputError(f"{', '.join(client_order_ids)}: a preview cancels no orders")


def show_preview(settings: LiveSettings, keys: ApiKeys, feed: BarFeed, trader: Trader) -> Result:
    """Print the decision that the trader would make at the venue now; no order is sent.

    Also prints the reasons why the live loop would not send the decision's orders.
    """
    connection = create_broker_connection(settings.broker, keys)
    state = _read_journal(settings, connection)
    gateway = connection.create_gateway(terms=settings.orders, feed=feed)
    refuse_unlisted_symbols(gateway, settings.tradable_symbols)
    broker = PreviewBroker(gateway, state)
    if settings.sizing.earned is True:
        trader = trader.with_evidence_state(state.evidence_state)
    cycle = run_decision_cycle(
        broker, feed, trader, settings, rules=VenueRules(broker), peak_equity=state.peak_equity
    )
    log_cycle(cycle)
    with tolerate_print_errors():
        print_cycle(cycle)
        print_symbols_without_order(cycle)
        print_symbols_without_decision(cycle, settings)
    for line in state.blockers:
        print_line(line)
    document = {**_cycle_document(cycle, settings), "loop_blockers": state.blockers}
    document["next_decision_at"] = None
    if cycle.decision is None:
        now, timeframe = cycle.account.as_of, cycle.bars.timeframe
        instant = next_decision_instant(
            now, settings.symbols, timeframe, settings.decision_schedule
        )
        print_line(f"The next decision is possible at {format_utc(instant)}.")
        document["next_decision_at"] = instant
    return Result(json_document=document)


def _cycle_document(cycle: Cycle, settings: LiveSettings) -> dict[str, Any]:
    """Return a cycle for JSON: money in USD, weights as fractions of equity, instants in UTC."""
    decision, equity = cycle.decision, cycle.account.equity
    choices = () if decision is None else decision.choices
    return {
        "at": cycle.account.as_of,
        "equity": equity,
        "idle_reason": cycle.idle_reason,
        "sizing_failure": decision.sizing_failure if decision else "",
        "decisions": [
            {
                **choice._asdict(),
                "rationale": choice.rationale._asdict(),
                "no_order_reason": format_no_order_reason(choice, equity),
            }
            for choice in choices
        ],
        "orders": [
            {
                "client_order_id": order.client_order_id,
                **encode_order(order),
                "reason": str(order.reason),
                "unsent_reason": cycle.unsent_reasons.get(order.client_order_id, ""),
            }
            for order in (decision.orders if decision else ())
        ],
        "undecided_reasons": dict(undecided_reasons(cycle, settings)),
    }


def _read_journal(settings: LiveSettings, connection: BrokerConnection) -> JournaledState:
    """Return the state of the account's loop, from its journal and its kill file.

    The journal lacks stops that have filled while the loop was down; the venue lists them.
    """
    journal = Path(settings.folder) / connection.account_id() / JOURNAL_FILE
    kill_file = journal.parent / KILL_FILE
    lines = (
        [f"A loop would send no orders: the kill file {kill_file} exists."]
        if may_exist(kill_file)
        else []
    )
    if not journal.is_file():
        return JournaledState(lines)
    with open_journal_for_reading(journal) as database:
        halts = HaltJournal(database, EventLog(database))
        lines += [
            f"A loop would be halted ({halt.rule.forbidden_scope}): {halt}. {halt.rule.remedy}"
            for halt in halts.active()
        ]
        lines += map(str, read_active_refusals(database))
        evidence = read_last_evidence(database, TRADE_JOB)
        return JournaledState(
            lines,
            halts.quarantined_symbols(),
            read_cooling_symbols(
                database, settings.protect, connection.now(), connection.activities_since
            ),
            read_highest_equity(database, TRADE_JOB),
            None if evidence is None else evidence.state,
        )
