"""Trade event contracts at Kalshi with a policy, on a demo account by default.

    python -m event_contracts.trade markets=[TICKER,…] policy=CHECKPOINT|kelly|random|nothing
    [mode=dry|paper|live] [steps=N] [key=value …]

Keys come from KALSHI_API_KEY_ID, and KALSHI_PRIVATE_KEY or KALSHI_PRIVATE_KEY_PATH. Real money
needs mode=live and confirm_live=true. After an interruption or a kill, a restart resumes where it
was. On a stop request the command cancels its orders. After a crash they expire at the venue.

Names of settings are the keys of configs/trade_kalshi.yaml. Days are New York dates, as for stocks,
because the venue is there and dates its fees by them.
"""

from __future__ import annotations

from foundation.cli import run_command

if __name__ == "__main__":
    run_command("event_contracts.trade")

import hashlib
import logging
import os
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from decimal import Decimal
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import ClassVar
from urllib.parse import urlsplit

import numpy as np

from event_contracts.settings import KalshiGuardSettings, KalshiTradingSettings
from event_contracts.trading.action_log import ActionEntry, ActionLog
from event_contracts.trading.actions import LimitOrderActionSpace
from event_contracts.trading.actor import ActorService, failure_alert_kind
from event_contracts.trading.endpoint import KalshiKeys, KalshiSettings
from event_contracts.trading.listings import (
    MarketFees,
    QuarantinedMarket,
    UnknownMarket,
    check_all_listed,
    find_unreadable_reasons,
    read_market_listings,
    update_sale_prices,
)
from event_contracts.trading.manager import (
    NO_REASONS,
    ORDER_LIFE,
    KalshiMultiMarketOrderManager,
    KalshiSnapshot,
)
from event_contracts.trading.policies import (
    BinaryKellyPolicy,
    HoldPolicy,
    Policy,
    RandomPolicy,
    load_network_policy,
)
from event_contracts.trading.sampler import EstimateFile, MarketSampler, read_estimates
from event_contracts.trading.status_sections import build_status_sections
from event_contracts.trading.venue_orders import OrderVenue
from execution.journal.commands import Command
from execution.journal.decisions import DecisionJournal
from execution.journal.halts import HaltJournal
from execution.journal.marks import EquityMark
from execution.journal.order_store import OrderStore
from execution.live.accounts import EVENT_CONTRACT_ACCOUNT_PREFIX
from execution.live.commands import CommandOutcome
from execution.live.guards import REDUCING_ROLES, halt_reason, rate_limit_reason, stop_reason
from execution.live.loop import StopSignal, print_line, stop_on_signals
from execution.live.losses import LossLimits, record_mark_and_halts
from execution.live.open_account import OpenAccount, open_account
from execution.live.runner import (
    AlwaysRespondingClock,
    open_supervised_loop,
    request_until_response,
)
from execution.live.status_page import StatusPageLimits
from execution.live.watch import WatchedAccount
from execution.orders.event_contract_orders import EventContractOrder
from execution.orders.gate import AnyOrder, OrderGate, OrderRole
from foundation.clock import SYSTEM_TIME, InstantSource, TimeSource
from foundation.console import tolerate_print_errors
from foundation.errors import (
    AccessDenied,
    BrokerError,
    InputError,
    ResponseRejected,
    closest_choices,
    format_suggestion,
)
from foundation.notifier import Supervisor
from trainingdata.instants import format_utc

log = logging.getLogger(__name__)

DecisionCallback = Callable[[ActionEntry], None]

JOB_NAME = "kalshi"
BUILT_IN_POLICIES = ("kelly", "random", "nothing")
DISCREPANCY_ALERT_KIND = "kalshi books"  # kind of the alert of book discrepancies
SETTLEMENT_NOT_LISTED_REASON = "the venue does not list its settlement yet"
_NAME_DIGEST_LENGTH = 16  # characters that distinguish accounts
_NANOSECOND = np.timedelta64(1, "ns")


@dataclass(frozen=True, slots=True)
class KalshiGate:
    """Gate that checks every order of an account right before it is sent.

    order_store: orders of all jobs of the account, for the hourly limit.
    kill_file: path of the kill file; while it exists, nothing is sent.
    """

    settings: KalshiGuardSettings
    halts: HaltJournal
    order_store: OrderStore
    kill_file: Path

    # An order of event contracts is checked against the account before it, without prices.
    prices: ClassVar[Mapping[str, float]] = MappingProxyType({})

    def refusal_reason(self, order: AnyOrder, role: OrderRole, now: np.datetime64) -> str:
        """Return the reason to deny an order, or an empty string if it may be sent."""
        if why := stop_reason(self.halts, self.kill_file):
            return why
        if role in REDUCING_ROLES:
            return ""
        if not isinstance(order, EventContractOrder):
            return "the order is not for an event contract"
        if order.market in self.halts.exited_symbols():
            return halt_reason(self.halts, "openings of symbols")
        value = order.price * order.count
        if value > self.settings.max_order:
            return f"cost ${value} exceeds guards.max_order ${self.settings.max_order:g}"
        return halt_reason(self.halts, "openings") or rate_limit_reason(
            self.order_store, order, now, self.settings.max_orders_per_hour
        )


@dataclass(slots=True)
class KalshiJob:
    """Job that samples an account's markets and decides at every tick, until all have settled.

    account: account that the job reads and marks to market; the journal has one cycle per tick.
    max_ticks: maximum number of ticks; None continues until every market has settled.
    skip_reasons: reasons why markets are not followed until the process restarts, by ticker.
    ticks_done: number of ticks so far.
    order_count: number of orders decided so far, sent or not.
    last_decision_reasons: reason of the last decision on each market that has had a tick.
    unbooked_settlement_reasons: reasons why the settlement of an ended market is not in the
        journal, by ticker.
    """

    actor_service: ActorService
    sampler: MarketSampler
    manager: KalshiMultiMarketOrderManager
    account: KalshiAccount
    stop_signal: StopSignal
    max_ticks: int | None
    skip_reasons: Mapping[str, str] = field(default_factory=dict)
    ticks_done: int = field(default=0, init=False)
    order_count: int = field(default=0, init=False)
    last_decision_reasons: dict[str, str] = field(default_factory=dict, init=False)
    unbooked_settlement_reasons: Mapping[str, str] = field(default_factory=dict, init=False)

    @property
    def name(self) -> str:
        return JOB_NAME

    def next_step_time(self, now: np.datetime64) -> np.datetime64 | None:
        """Return the instant of the next tick; None after the last one.

        The last tick is number `max_ticks`, or the one after which all settlements are booked.
        """
        if self.ticks_done == self.max_ticks or not (
            self.sampler.schedules or self.unbooked_settlement_reasons
        ):
            return None
        return self.sampler.next_tick_after(now)

    def step(self) -> None:
        """Sample the markets, decide on each tick, then read the account and mark it to market."""
        self.ticks_done += 1
        now = self.account.locked_account.now()
        number = self.account.journal.cycles.begin_cycle(now)
        try:
            updates = self.sampler.sample_markets(
                self.sampler.next_tick_after(now) - self.sampler.interval
            )
            for update in updates:
                if not self.stop_signal:
                    entry = self.actor_service.process_update(update)
                    skipped = ", ".join(self.actor_service.skipped_tick_counts) or "failed"
                    self.last_decision_reasons[update.market] = (
                        entry.reason if entry else f"undecided ({skipped})"
                    )
                    self.order_count += bool(entry and entry.size)
            held = self.account.held_markets()
            reading = self.account.mark_to_market(
                self.manager, {**self.sampler.unreadable_reasons, **self.skip_reasons}
            )
            self.unbooked_settlement_reasons = self._find_unbooked_reasons(
                {*held, *reading.books.positions}, reading
            )
        except BrokerError as error:
            self.account.journal.cycles.end_cycle(
                number, self.account.locked_account.now(), failure=str(error)
            )
            raise
        shown = f"ticks of {', '.join(update.market for update in updates)}" if updates else ""
        idle_reason = "" if updates else "no market has a tick"
        self.account.journal.cycles.end_cycle(
            number,
            self.account.locked_account.now(),
            decision_id=shown,
            fill_count=reading.new_fill_count,
            idle_reason=idle_reason,
        )

    def check_settlements_booked(self) -> None:
        """Raise BrokerError if the settlement of a followed market is not in the journal yet.

        After a stop request nothing is raised, because the loop did not wait for settlements.
        """
        reasons = [
            f"{market} ({why})"
            for market, why in self.unbooked_settlement_reasons.items()
            if market not in self.skip_reasons
        ]
        if reasons and not self.stop_signal:
            raise BrokerError(
                f"settlements not booked: {'; '.join(reasons)}; start again to book them"
            )

    def _find_unbooked_reasons(
        self, held: Collection[str], reading: KalshiSnapshot
    ) -> dict[str, str]:
        """Return, by ticker, why the settlement of an ended market is not in the journal.

        An ended market is checked if it is in `held`, is quarantined, or was unbooked before.

        held: markets with a position, now or at the last mark.
        """
        ended = {*self.sampler.markets} - {*self.sampler.schedules}
        waiting = ended & {*held, *reading.quarantine_reasons(), *self.unbooked_settlement_reasons}
        if not waiting:
            return {}
        waiting -= {each.market for each in self.account.action_log.read_settled_markets()}
        not_listed = dict.fromkeys(waiting, SETTLEMENT_NOT_LISTED_REASON)
        reasons = reading.quarantine_reasons(known_reasons={**not_listed, **self.skip_reasons})
        return {market: reasons[market] for market in sorted(waiting)}

    def read_watched_account(self) -> WatchedAccount:
        """Read the account and mark it to market, for the watch."""
        reasons = {**self.sampler.unreadable_reasons, **self.skip_reasons}
        self.account.mark_to_market(self.manager, reasons)
        mark = self.account.locked_account.marks.last_mark()
        assert mark is not None
        return WatchedAccount(mark)

    def trades_symbol(self, symbol: str) -> bool:
        return symbol in self.sampler.markets

    def reduce_positions(self, command: Command) -> CommandOutcome:
        """Cancel working orders; name the positions, which only the venue's own page can close."""
        markets = (command.argument,) if command.verb == "exit" else tuple(self.sampler.schedules)
        for market in markets:
            self.manager.cancel_stale_orders(market, self.account.locked_account.now())
        positions = self.manager.read_snapshot().books.positions
        return CommandOutcome(
            ["working orders cancelled"],
            [
                f"{count:f} {market} (close it at the venue)"
                for market, count in positions.items()
                if command.verb != "exit" or market in markets
            ],
        )

    def finish(self, *, flatten: bool) -> list[str]:
        """Cancel the working orders; return the positions that remain to be closed, as text.

        flatten: true if positions should be closed. This job cannot close them, so it returns all
            of them. False: the result is empty.
        """
        now = self.account.locked_account.now()
        troubles = []
        for market in self.sampler.schedules:
            try:
                self.manager.cancel_stale_orders(market, now)
            except BrokerError as error:
                troubles.append(f"{market}: {error}")
        if troubles:
            raise BrokerError("; ".join(troubles))
        held = self.manager.read_snapshot().books.positions if flatten else {}
        return [f"{count:f} {market}" for market, count in held.items()]


def trade_markets(
    settings: KalshiTradingSettings,
    keys: KalshiKeys,
    stop: StopSignal,
    on_decision: DecisionCallback,
    time: TimeSource = SYSTEM_TIME,
) -> None:
    """Trade until `steps` ticks are done, every market has settled, or a stop is requested.

    on_decision: callback for every decision, after its order was sent.
    """
    venue = settings.venue_settings()
    fees = MarketFees(settings.fees.rules_on)
    policy = build_policy(settings)
    estimates = None if settings.estimates is None else Path(settings.estimates)
    supervisor = Supervisor.from_environment(os.environ)
    patient = settings.steps is None
    connection = OrderVenue(venue, keys, time)
    is_new = not (Path(settings.folder) / account_name(venue, keys)).exists()
    hopeless = (AccessDenied, UnknownMarket)
    # Invalid keys and unknown markets create no account folder.
    check = partial(_check_keys_and_markets, connection, settings.markets)
    if is_new and not request_until_response(
        check, stop, supervisor, retry=patient, fatal_errors=hopeless
    ):
        return
    with open_kalshi_account(settings, venue, keys, time) as ours:
        account = ours.locked_account
        own = EstimateFile(estimates, account.notices)
        sampler = MarketSampler(
            connection, settings.markets, settings.tick_interval, own.estimates_at
        )

        def build_job() -> KalshiJob:
            listings = sampler.read_listings()
            check_all_listed(listings.values())
            left_out = find_unreadable_reasons(listings.values())
            for market in [name for name in listings if name not in left_out]:
                try:
                    fees.load_fee_terms(connection, (market,))
                except ResponseRejected as error:
                    left_out[market] = str(error)
            followed = [market for market in listings if market not in left_out]
            if not followed:
                raise BrokerError("; ".join(left_out.values()))
            space = settings.build_action_space(fees.highest_fee_rules(time.now()))
            manager = KalshiMultiMarketOrderManager(
                venue,
                keys,
                space.pre_trade_check,
                fees,
                order_store=account.book,
                gate=ours.gate,
                job=JOB_NAME,
                order_life=max(settings.life * settings.tick_interval, ORDER_LIFE),
                time=time,
            )
            ours.resume_books(manager)
            starting_equity = ours.action_log.read_starting_equity()
            if starting_equity is None:
                starting_equity = ours.action_log.record_starting_equity(
                    _read_equity(manager, followed)
                )
            service = ActorService(
                account.name,
                manager,
                space,
                policy(space, float(starting_equity)),
                ours.action_log,
                account.notices,
                clock=account.now,
                decision_valid_seconds=settings.decision_valid_seconds,
                is_opening_halted=ours.is_opening_halted,
                on_decision=on_decision,
            )
            shown = {market: listings[market] for market in followed}
            sampler.start_schedules(shown, ours.action_log.read_schedules(), account.now())
            for market, schedule in sampler.schedules.items():
                service.follow_market(market, schedule)
            ours.mark_to_market(manager, left_out)
            return KalshiJob(service, sampler, manager, ours, stop, settings.steps, left_out)

        job = request_until_response(
            build_job, stop, supervisor, retry=patient, fatal_errors=hopeless
        )
        if job is not None:
            with open_supervised_loop(
                [job],
                account,
                stop,
                supervisor,
                clock=AlwaysRespondingClock(time),
                page_limits=StatusPageLimits(float(settings.limits.share), settings.guards),
                sections=build_status_sections(account.book, ours.action_log),
                max_failed_cycles=settings.max_failed_cycles,
                watch_settings=settings.watch,
                watch_reader=job if settings.watch.limits else None,
            ) as loop:
                loop.run()
                job.check_settlements_booked()
            log.info(
                "%d ticks; without a decision, by reason: %s",
                job.ticks_done,
                job.actor_service.skipped_tick_counts,
            )
            if not job.order_count:
                reasons = dict.fromkeys(settings.markets, "no tick") | job.last_decision_reasons
                print_line(f"No order. {'; '.join(f'{name}: {reasons[name]}' for name in reasons)}")


def _check_keys_and_markets(connection: OrderVenue, markets: Sequence[str]) -> bool:
    """Check that the keys open the account and that the venue lists the markets; return True.

    Raises AccessDenied for invalid keys, and UnknownMarket for the first unlisted market.
    """
    connection.read_cash()
    check_all_listed(read_market_listings(connection, markets).values())
    return True


def _read_equity(manager: KalshiMultiMarketOrderManager, markets: Sequence[str]) -> Decimal:
    """Return the account's equity, USD, as read with the first market that is not quarantined."""
    *others, last = markets
    for market in others:
        with suppress(QuarantinedMarket):
            return manager.view(market).equity
    return manager.view(last).equity


def build_policy(
    settings: KalshiTradingSettings,
) -> Callable[[LimitOrderActionSpace, float], Policy]:
    """Return a factory of the policy that the settings name.

    The factory takes the action space and the starting equity in USD; a policy reads features that
    are scaled by this equity. Raises InputError for an unreadable or incompatible checkpoint.
    """
    if settings.policy == "nothing":
        return lambda *_: HoldPolicy()
    if settings.policy == "random":
        return lambda *_: RandomPolicy(settings.seed)
    if settings.policy == "kelly":
        return lambda space, starting_equity: BinaryKellyPolicy(
            space, starting_equity, settings.kelly_fraction
        )
    try:
        network = load_network_policy(settings.policy)
    except InputError as error:
        hint = format_suggestion(closest_choices(settings.policy, BUILT_IN_POLICIES))
        raise InputError(
            f"policy: {error}; set policy to the path of a checkpoint, or to one of"
            f" {', '.join(BUILT_IN_POLICIES)}{hint}"
        ) from error
    if why := network.checkpoint_info.incompatibility_reason(settings):
        raise InputError(f"{settings.policy}: {why}")
    return lambda *_: network


@dataclass(frozen=True, slots=True)
class KalshiAccount:
    """An account at Kalshi that this process has locked, with its journal and loss limits.

    locked_account: locked account with its database, marks and halts.
    journal, action_log: decision journal and action log of the job.
    gate: gate that checks each order right before it is sent.
    loss_limits: loss limits, as shares of equity.
    alerted_markets: quarantined markets whose alert has been sent.
    """

    locked_account: OpenAccount
    journal: DecisionJournal
    action_log: ActionLog
    gate: OrderGate
    loss_limits: LossLimits
    alerted_markets: set[str] = field(default_factory=set)

    def is_opening_halted(self) -> bool:
        """Return whether a halt of all trading, or of openings, forbids opening orders."""
        halts = self.locked_account.halts
        return bool(halt_reason(halts, "everything") or halt_reason(halts, "openings"))

    def held_markets(self) -> Collection[str]:
        """Return the markets in which the account had a position at the last mark."""
        kept = self.action_log.read_books()
        return () if kept is None else kept[0].positions.keys()

    def resume_books(self, manager: KalshiMultiMarketOrderManager) -> None:
        if kept := self.action_log.read_books():
            manager.set_baseline(kept[0])

    def mark_to_market(
        self,
        manager: KalshiMultiMarketOrderManager,
        unsampled_reasons: Mapping[str, str] = NO_REASONS,
    ) -> KalshiSnapshot:
        """Read the account and mark it to market; halt if its losses reach a limit.

        Returns the snapshot, after a comparison with the positions and cash recorded at the last
        mark. An alert is raised for discrepancies and for quarantined markets.

        unsampled_reasons: reasons why followed markets could not be read, by ticker.
        """
        reading = manager.read_snapshot()
        cash, positions = reading.books.cash, reading.books.positions
        listings = read_market_listings(manager.venue, positions)
        kept = self.action_log.read_books()
        sales = update_sale_prices(listings, kept[1] if kept else {})
        quarantined = reading.quarantine_reasons(listings.values(), unsampled_reasons)
        values = {
            market: listings[market].position_value(count, sales[market])
            for market, count in positions.items()
        }
        mark = EquityMark(
            at=self._next_mark_time(reading.books.at),
            equity=float(sum(values.values(), cash)),
            cash=float(cash),
            gross_stock=0.0,
            gross_crypto=0.0,
            stock_ceiling=0.0,
            net_deposits=float(reading.net_deposits),
            positions={market: float(value) for market, value in values.items()},
        )
        with self.locked_account.database.transaction():
            _, changes = record_mark_and_halts(
                self.locked_account.marks, self.locked_account.halts, mark, self.loss_limits
            )
            self.action_log.record_books(reading.books, sales)
            self.action_log.record_settlements(reading.paid_positions)
        manager.set_baseline(reading.books)
        self._alert_quarantined(quarantined)
        self.locked_account.alert_halt_changes(changes)
        if reading.discrepancies:
            self.locked_account.notices.alert(
                DISCREPANCY_ALERT_KIND, "; ".join(reading.discrepancies)
            )
        else:
            self.locked_account.notices.reset_alert(DISCREPANCY_ALERT_KIND)
        return reading

    def _alert_quarantined(self, quarantined: Mapping[str, str]) -> None:
        """Alert each quarantined market, and end the alert once the market can be read again.

        quarantined: reasons by ticker.
        """
        notices = self.locked_account.notices
        for market, why in quarantined.items():
            text = f"{market} is quarantined and not traded, other markets are: {why}"
            notices.alert(failure_alert_kind(market), text)
        for market in self.alerted_markets - set(quarantined):
            notices.reset_alert(failure_alert_kind(market))
        self.alerted_markets.clear()
        self.alerted_markets.update(quarantined)

    def _next_mark_time(self, at: np.datetime64) -> np.datetime64:
        """Return the instant for a mark: `at`, or just after the previous mark if that is later.

        `at` is before the previous mark if the clock was set back.
        """
        last = self.locked_account.marks.index_point_before()
        return at if last is None else max(at, last.at + _NANOSECOND)


@contextmanager
def open_kalshi_account(
    settings: KalshiTradingSettings, venue: KalshiSettings, keys: KalshiKeys, clock: InstantSource
) -> Iterator[KalshiAccount]:
    """Lock an account, open its journal (in memory for a dry run), and yield the account."""
    name, root, dry = account_name(venue, keys), Path(settings.folder), settings.mode == "dry"
    with open_account(
        name,
        root,
        keys,
        clock,
        monitoring=settings,
        unattended=True,
        is_dry_run=dry,
        is_paper=settings.mode != "live",
    ) as account:
        account.next_cycle.record_next_cycle(JOB_NAME, clock.now(), clock.now())
        gate = KalshiGate(settings.guards, account.halts, account.book, account.kill_file)
        yield KalshiAccount(
            account,
            account.build_decision_journal(JOB_NAME),
            ActionLog(account.database, account.events, account.book, JOB_NAME),
            DryRunGate() if dry else gate,
            settings.guards,
        )


def account_name(venue: KalshiSettings, keys: KalshiKeys) -> str:
    """Return the account's local name, derived from its key, because the venue gives no id.

    Two keys of one account give two names and therefore two locks. The user has to ensure that only
    one process trades an account.
    """
    # This machine has several host names, and a port has one account.
    where = urlsplit(venue.address).port if venue.is_loopback else venue.address
    digest = hashlib.sha256(f"{where} {keys.key_id}".encode()).hexdigest()
    return f"{EVENT_CONTRACT_ACCOUNT_PREFIX}{venue.mode}-{digest[:_NAME_DIGEST_LENGTH]}"


class DryRunGate:
    """Gate of a dry run, which denies every order."""

    prices: ClassVar[Mapping[str, float]] = MappingProxyType({})

    def refusal_reason(self, order: AnyOrder, role: OrderRole, now: np.datetime64) -> str:
        del order, role, now
        return "mode=dry sends no orders"


def print_decision(entry: ActionEntry) -> None:
    """Print a decision with its order and the venue's response; skip decisions without an order."""
    if not entry.size:
        return
    with tolerate_print_errors():
        what = f"{entry.intent} {entry.size} at ${entry.price}"
        sys.stdout.write(f"{format_utc(entry.at)} {entry.market}: {what}; {entry.response}\n")


def check_policy_and_estimates(settings: KalshiTradingSettings) -> None:
    """Check that the policy and the file of estimates can be read; raise `InputError` if not.

    The command does this before it asks for keys.
    """
    build_policy(settings)
    if settings.estimates is not None:
        read_estimates(Path(settings.estimates))


def run(settings: KalshiTradingSettings) -> None:
    check_policy_and_estimates(settings)
    stop = StopSignal()
    with stop_on_signals(stop):
        trade_markets(settings, KalshiKeys.from_environment(os.environ), stop, print_decision)
