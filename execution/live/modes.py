"""The modes of the live command: preview, dry cycle, trading on paper or with money, replay.

A dry cycle decides once for an account that the user states, a preview for the venue's account.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from omegaconf import DictConfig

from execution.brokers import (
    BrokerConnection,
    Gateway,
    create_broker_connection,
    open_reading_gateway,
)
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
from execution.live.arguments import PREVIEW_ARGUMENT, parse_live_overrides
from execution.live.asset_check import refuse_unlisted_symbols
from execution.live.cycle import (
    Cycle,
    next_decision_instant,
    no_decision_reason,
    run_decision_cycle,
)
from execution.live.cycle_report import (
    CycleLogger,
    CyclePrinter,
    log_cycle,
    print_cycle,
    print_symbols_without_decision,
    print_symbols_without_order,
)
from execution.live.loop import print_line
from execution.live.runner import open_trading_loop
from execution.live.settings import LiveSettings
from execution.live.undecided import undecided_reasons
from execution.orders.account_snapshot import AccountSnapshot
from execution.orders.broker import Asset
from execution.orders.gate import ALLOW_ALL_ORDERS, OrderGate
from execution.orders.orders import Fill, Order
from execution.orders.venue_rules import VenueRules
from foundation.cli import Result
from foundation.compose import compose_config
from foundation.console import tolerate_print_errors
from foundation.errors import InputError, invalid_choice_error
from foundation.files import may_overwrite
from foundation.notifier import Supervisor
from foundation.plugin import load_product_object
from foundation.signals import exit_on_errors
from trainingdata.bars import last_closes_by_symbol
from trainingdata.feed.bar_feed import BarFeed
from trainingdata.feed.endpoint import KEY_VARIABLE, ApiKeys
from trainingdata.feed.market_data import MarketData
from trainingdata.instants import format_utc
from trainingdata.instruments import instrument

log = logging.getLogger("live")


ORDER_SENDING_MODES = ("paper", "live")
# The modes, and the state after an interruption of each.
INTERRUPTION_TEXT_BY_MODE = {
    **dict.fromkeys(("dry", PREVIEW_ARGUMENT), "no orders were sent"),
    **dict.fromkeys(ORDER_SENDING_MODES, "orders already sent remain at the venue"),
    "replay": "completed cycles are in the journal; repeat the same command to continue",
}


def build_venue_components(config: DictConfig) -> tuple[LiveSettings, ApiKeys, BarFeed, Trader]:
    """Build the settings, API keys, bar feed and trader of a run at a venue.

    Raises InputError for settings, keys or files that are invalid in the configured mode.
    """
    settings = LiveSettings.from_config(config)
    _refuse_unconfirmed(config, settings)
    keys = ApiKeys.from_environment(os.environ)
    _refuse_wrong_keys(settings, keys)
    if not settings.symbols and TRADE_JOB in settings.jobs:
        raise InputError("symbols: not set; list the symbols to trade, such as [NVDA,BTCUSD]")
    settings.check_input_files()
    names = tuple(sorted(settings.tradable_symbols))
    settings.check_schedule(settings.timeframe_or_hourly, names)
    for unused in settings.unused_symbol_warnings(names, settings.data.actions_to_book()):
        log.warning("%s", unused)
    # A replay's clock waits for its caller: a missing bar would never arrive.
    if config.mode == "replay":
        settings = replace(settings, bar_wait_seconds=0.0)
    adjustment, timeframe = settings.data.adjustment, settings.timeframe_or_hourly
    data = MarketData(settings.broker, keys, settings.data.feed, adjustment, timeframe)
    feed = BarFeed(data, names, settings.effective_history_days, settings.bar_wait_seconds)
    return settings, keys, feed, settings.build_trader(settings.forecaster.build(names))


def _refuse_unconfirmed(config: DictConfig, settings: LiveSettings) -> None:
    """Reject live trading unless `confirm_live` is true and `broker.paper` is false."""
    live = config.mode == "live"
    if live and config.confirm_live is not True:
        raise InputError("mode: live trades real money; confirm it with confirm_live=true")
    if live and settings.broker.paper:
        raise InputError("broker.paper: true conflicts with mode=live; set broker.paper=false")
    if not live and config.mode in ORDER_SENDING_MODES and not settings.broker.paper:
        raise InputError(
            f"broker.paper: false conflicts with mode={config.mode}; set it to true, or set"
            " mode=live to trade real money"
        )


def _refuse_wrong_keys(settings: LiveSettings, keys: ApiKeys) -> None:
    """Reject live keys in paper mode, and paper keys in live mode."""
    kind = "live" if keys.are_live else "paper" if keys.are_paper else ""
    wanted = "paper" if settings.broker.paper else "live"
    if settings.broker.is_live_host and settings.broker.paper:
        raise InputError(
            f"broker.url_override: {settings.broker.address} trades real money but broker.paper is"
            " true; remove the override, or set mode=live to trade real money"
        )
    if kind and kind != wanted and not settings.broker.is_loopback:
        raise InputError(
            f"{KEY_VARIABLE}: this is the key of a {kind} account but broker.paper requires a"
            f" {wanted} one; set the keys of a {wanted} account"
        )


def run_at_venue(config: DictConfig) -> Result | None:
    """Run the configured mode at a venue: the trading loop, a replay or a preview.

    Only a preview returns a result.
    """
    settings, keys, feed, trader = build_venue_components(config)
    if named := [key for key in ("start", "end", "days") if config[key] is not None]:
        with tolerate_print_errors():
            sys.stderr.write(f"{', '.join(named)}: ignored; the venue's clock sets the period.\n")
    reports = CycleLogger(settings)
    if config.mode == "replay":
        output, overwrite = Path(config.output), may_overwrite(config)
        run_replay = load_product_object("MODES", config.mode)
        summary = run_replay(
            settings, keys, feed, trader, output, overwrite=overwrite, reporter=reports
        )
        sys.stdout.write(f"{summary}\n")
    elif config.mode in ORDER_SENDING_MODES:
        decides = trader if TRADE_JOB in settings.jobs else None
        supervisor, cycles = Supervisor.from_environment(os.environ), config.cycles
        with open_trading_loop(
            settings,
            keys,
            feed,
            decides,
            supervisor,
            cycles=cycles,
            reporter=CyclePrinter(settings),
        ) as loop:
            if loop is not None:
                loop.run()
    else:
        return show_preview(settings, keys, feed, trader)
    return None


def parse_arguments(words: Sequence[str]) -> tuple[DictConfig, None]:
    """Compose the configuration; return it, and None because there is no output folder.

    Raises InputError for an unknown mode or an invalid number of cycles.
    """
    config = compose_config("live", parse_live_overrides(words))
    if config.mode not in INTERRUPTION_TEXT_BY_MODE:
        raise invalid_choice_error("mode", config.mode, INTERRUPTION_TEXT_BY_MODE)
    if config.cycles is not None and (not isinstance(config.cycles, int) or config.cycles < 1):
        raise InputError(
            f"cycles: {config.cycles!r} is not a whole number above 0; set null to run until"
            " stopped"
        )
    return config, None


def run(settings: DictConfig) -> Result | None:
    """Run the configured mode; only a preview returns a result."""
    with exit_on_errors(INTERRUPTION_TEXT_BY_MODE[settings.mode]):
        if settings.mode != "dry":
            return run_at_venue(settings)
        live = LiveSettings.from_config(settings)
        cycle = run_dry_cycle(live, read_positions(settings))
        print_cycle(cycle)
        print_symbols_without_order(cycle)
        print_symbols_without_decision(cycle, live)
    return None


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
    if settings.sizing.earned is True:
        trader = trader.with_evidence_state(state.evidence_state)
    with open_reading_gateway(connection, terms=settings.orders, feed=feed) as gateway:
        refuse_unlisted_symbols(gateway, settings.tradable_symbols)
        broker = PreviewBroker(gateway, state)
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
