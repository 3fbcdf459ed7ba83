"""Job that trades stocks and crypto: a cycle at every bar, and overnight trims before the close.

A daily decision plans orders for the next auction. The job sends them later, once the venue accepts
them.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import numpy as np

from execution.brokers import AccountReadingRejected
from execution.decision.protection import UNEXECUTED_STOPS_WARNING
from execution.decision.trader import Trader
from execution.journal.commands import KILL, Command
from execution.journal.decisions import read_highest_equity
from execution.journal.events import UNDECIDED_SYMBOLS_EVENT
from execution.journal.order_store import PENDING_STATES
from execution.live.account import LiveAccount
from execution.live.accounts import TRADE_JOB
from execution.live.batch import (
    OrderBatch,
    build_finished_cycle,
    record_batch_outcome,
    record_decision_batch,
)
from execution.live.commands import CommandOutcome
from execution.live.cycle import Cycle, build_idle_cycle, next_decision_instant, run_decision_cycle
from execution.live.expected_positions import net_fills_by_symbol
from execution.live.guarded_broker import GuardedBroker
from execution.live.guards import stop_reason
from execution.live.issued_forecasts import seal_decision_forecasts
from execution.live.loop import print_line
from execution.live.overnight import OvernightTrimmer
from execution.live.protection import LiveProtection
from execution.live.reducing import PositionReducer
from execution.live.resumption import resume_batches
from execution.live.settings import LiveSettings
from execution.live.undecided import undecided_reasons
from execution.live.validation import BarValidator, missing_history_reasons
from execution.orders.account_snapshot import AccountSnapshot
from execution.orders.auctions import auction_send_deadline, next_send_time
from execution.orders.broker import place_orders
from execution.orders.venue_rules import VenueRules
from forecasting.forecast import NO_FORECAST
from foundation.console import print_warning_once
from foundation.errors import BrokerError, DataError, InputError
from trainingdata.bars import Bars, last_closes_by_symbol
from trainingdata.feed.bar_feed import BarFeed
from trainingdata.instants import format_compact_utc, format_utc
from trainingdata.instruments import AssetClass, is_stock

log = logging.getLogger("live")

# Time until a failed daily cycle is repeated, or an order that could not be sent for an auction is
# sent again: the opening auction accepts orders all night, the closing one for minutes.
CYCLE_RETRY_INTERVALS = {"open": np.timedelta64(15, "m"), "close": np.timedelta64(1, "m")}

SEAL_ALERT = "seal"
# Seconds before each attempt of `kill --flatten`: ten minutes in total.
FLATTEN_DELAYS_SECONDS = (0.0, 2.0, 5.0, 10.0, 20.0, 30.0, *(60.0,) * 9)


class TradingJob:
    """Job that runs the cycles of one trader on one account.

    live: the account.
    feed: source of bars and last trades.
    trader: trader that makes the decisions.
    settings: settings of the loop.
    cycles: number of cycles; None continues until the loop stops.
    patience: longest wait for the outcome of orders, seconds.
    forecasts: folder in which the decisions' forecasts are sealed; None seals none.
    """

    name = TRADE_JOB

    def __init__(
        self,
        live: LiveAccount,
        feed: BarFeed,
        trader: Trader,
        settings: LiveSettings,
        *,
        cycles: int | None,
        patience: float = 10.0,
        forecasts: Path | None = None,
    ) -> None:
        self._live = live
        self._forecasts = None if settings.forecaster.kind == NO_FORECAST else forecasts
        self._connection = live.connection
        gateway = live.connection.create_gateway(
            terms=settings.orders, patience=patience, book=live.book, job=TRADE_JOB, feed=live.feed
        )
        self.desk = GuardedBroker(gateway, live, secured=True)
        self._feed = feed
        self._trader = trader
        self._settings = settings
        self._cycles = cycles
        self._journal = live.account.build_decision_journal(TRADE_JOB)
        self._rules = VenueRules(self.desk)
        self._made = 0
        self._next_cycle: np.datetime64 | None = None
        self._next_sending: np.datetime64 | None = None
        self._night = OvernightTrimmer(self.desk, live, self._journal, settings)
        self._reducer = PositionReducer(self.desk, live, self._journal, settings)
        self._protection = LiveProtection(
            self.desk, live, self._journal, feed, settings, self._reducer
        )
        self._followed = False
        self._filled = False  # whether an order has filled in this cycle
        self._waits = True  # whether the bars of the last day are still missing
        self._validator = BarValidator()
        self._decided = {row.choice.symbol for row in self._journal.latest_choice_by_symbol()}
        last = self._journal.cycles.last_cycle()
        self._interrupted = last if last is not None and last.ended_at is None else None
        last_ended = self._journal.cycles.last_cycle(ended=True)
        self._last_idle = "" if last_ended is None else last_ended.idle_reason

    @property
    def is_done(self) -> bool:
        """Return whether all cycles are done and no order remains to be sent."""
        return self._made == self._cycles and self._next_sending is None

    def next_step_time(self, now: np.datetime64) -> np.datetime64 | None:
        """Return the time of the next step; None once no cycle and no order remains.

        A step is a cycle, a check of positions before the close, or the sending of planned orders.
        """
        if self._made == self._cycles:
            return self._next_sending
        if self._next_cycle is None:
            return now
        instants = (self._next_cycle, self._night.next_check_time(now), self._next_sending)
        return min(each for each in instants if each is not None)

    def step(self) -> Cycle | None:
        """Run a cycle and return it, or check positions before the close and return None."""
        now = self._connection.now()
        if self._next_cycle is not None and self._night.check_if_due(now):
            self.update_protection()
            return None
        if self._next_cycle is not None and now < self._next_cycle:
            self._made -= 1  # a cycle that only sends planned orders does not count
        return self.run_cycle()

    def run_cycle(self) -> Cycle:
        """Run one cycle (update earlier orders, reconcile, decide, send orders), and return it.

        `docs/OPERATIONS.md`, section "Know what a cycle does", describes the steps.
        """
        now = self._connection.now()
        self._made += 1
        with self._record_cycle_start(now) as number:
            try:
                self._update_earlier_orders()
                self._night.venue_close = self._connection.next_close()
                self._live.reconcile()
                account = self.desk.read_and_record_mark()
                cycle = self._idle_cycle(account)
                if cycle is None:
                    for batch in self._batches():
                        with record_batch_outcome(batch, self._journal):
                            batch.fills, batch.unsent_reasons = place_orders(
                                self.desk, batch.orders, batch.cancelled_quantities, batch.gate
                            )
                    cycle = self._finish_batch(batch)
            except AccountReadingRejected as error:
                cycle = self._rejected_cycle(error)
            self._waits = self._waits_for_bars(cycle)
        self._record_result(number, cycle)
        self.update_protection(ends_cycle=True)
        self._seal_forecasts(cycle)
        return cycle

    def _seal_forecasts(self, cycle: Cycle) -> None:
        """Seal the forecasts of a cycle's decision, after its orders; a failure is alerted."""
        if self._forecasts is None or cycle.decision is None:
            return
        try:
            now = self._connection.estimated_now()
            seal_decision_forecasts(self._forecasts, cycle.decision, cycle.bars, now)
            self._live.notices.reset_alert(SEAL_ALERT)
        except (InputError, OSError) as error:
            log.error("forecasts were not sealed: %s", error)
            self._live.notices.alert(SEAL_ALERT, f"forecasts were not sealed: {error}")

    def on_snapshot(self, snapshot: AccountSnapshot) -> None:
        """Update protective orders between cycles, once the watch has read the account."""
        self.update_protection(snapshot)

    def protect_at_start(self) -> None:
        """Reconcile the account and protect its positions before the first step of a process.

        Orders of commands that have ended meanwhile are cancelled.
        """
        with suppress(BrokerError):  # the first cycle reports what is wrong
            self._reducer.cancel_orders_of_ended_commands()
            if self._settings.protect.is_on:
                self._live.reconcile()
        if self._settings.protect.is_on:
            self.update_protection()

    def update_protection(
        self, account: AccountSnapshot | None = None, *, ends_cycle: bool = False
    ) -> None:
        """Keep one protective order a position.

        A failure is alerted, and leaves the resting orders as they are until the next call.

        account: account snapshot since which nothing was sent; None reads the account.
        ends_cycle: true at the end of a cycle.
        """
        try:
            self._protection.update(account, ends_cycle=ends_cycle)
        except (BrokerError, DataError) as error:
            log.error("protective orders were not updated: %s", error)
            self._protection.report_failure(str(error))

    @contextmanager
    def _record_cycle_start(self, now: np.datetime64) -> Iterator[int]:
        """Return a context manager for a cycle, which yields the cycle's number.

        It records the start of the cycle and an error that ends it. At the end it schedules the
        next steps.
        """
        self._waits = True
        try:
            if self._settings.broker.is_loopback:
                self._live.check_account_id()
            number = self._journal.cycles.begin_cycle(now)
            with self._record_failure(number):
                yield number
        finally:
            # The clock of a practice server is moved only after the cycle has ended.
            self._next_cycle = self._find_next_cycle_time(done=not self._waits)
            self._next_sending = self._find_next_send_time()
            self._live.all_cycles_done = self.is_done

    def _record_result(self, number: int, cycle: Cycle) -> None:
        """Record the result of a cycle in the journal.

        number: number of the cycle.
        """
        account = cycle.account
        self._live.book.refusals.record_account_block(account.block_reason, account.as_of)
        self._record_undecided(undecided_reasons(cycle, self._settings))
        self._journal.cycles.end_cycle(
            number,
            self._connection.estimated_now(),
            decision_id=cycle.decision_id,
            fill_count=len(cycle.fills),
            idle_reason=cycle.idle_reason,
        )

    @contextmanager
    def _record_failure(self, number: int) -> Iterator[None]:
        """Return a context manager that records an error which ends the cycle, and raises it again.

        Positions that the cycle has opened before the error are protected.

        number: number of the cycle.
        """
        try:
            yield
        except (BrokerError, DataError) as error:
            self._journal.cycles.end_cycle(
                number, self._connection.estimated_now(), failure=str(error)
            )
            self.update_protection()
            raise

    def _find_next_cycle_time(self, *, done: bool) -> np.datetime64 | None:
        """Return the next instant at which a decision is possible; None if the time is unknown.

        None starts the next cycle at once.

        done: true if the previous cycle made the day's decision; otherwise the cycle is repeated
            while there is time until the auction.
        """
        timeframe = self._settings.timeframe_or_hourly
        try:
            now = self._connection.now_or_estimate()
            following = next_decision_instant(now, self._settings.symbols, timeframe)
        except BrokerError:
            return None
        retried = now + CYCLE_RETRY_INTERVALS[timeframe.fill]
        return min(following, retried) if timeframe.is_daily and not done else following

    def _waits_for_bars(self, cycle: Cycle) -> bool:
        """Return whether the last daily bar of every stock is missing and may still come in time.

        The time ends when orders for the auction have to be sent.
        """
        timeframe, now = self._settings.timeframe_or_hourly, cycle.account.as_of
        auction = timeframe.auction_time_in_force
        if auction is None or not any(map(is_stock, self._settings.symbols)):
            return False
        ended = timeframe.last_bar_end(AssetClass.STOCK, now)
        return bool(cycle.bars.last_instant < ended and now < auction_send_deadline(auction, ended))

    def _find_next_send_time(self) -> np.datetime64 | None:
        """Return the next time at which planned auction orders are sent or expire; None if none.

        Orders that could not be sent are tried again after a pause.
        """
        planned = [
            intent.stock_or_crypto_order
            for decision in self._journal.unfinished_decisions()
            for intent in self._live.book.intents_for_decision(decision.decision_id)
            if intent.state in PENDING_STATES and intent.state != "accepted"
        ]
        try:
            retry = CYCLE_RETRY_INTERVALS[self._settings.fill]
            return next_send_time(planned, self._connection.now_or_estimate(), retry)
        except BrokerError:
            return self._next_sending

    def _idle_cycle(self, account: AccountSnapshot) -> Cycle | None:
        """Return a cycle without a decision if halts, the kill file or missing history prevent one.

        Returns None if a decision may be made.
        """
        stopped = stop_reason(self._live.halts, self._live.account.kill_file)
        why = stopped or self._missing_history_reason(account)
        if not why:
            return None
        bars = self._settings.data.build_market(self._feed.bars(account.as_of)).visible_bars()
        return build_idle_cycle(account, bars, why, self._validator)

    def _rejected_cycle(self, error: AccountReadingRejected) -> Cycle:
        """Return a cycle without a decision, because the account reading was rejected."""
        bars = self._feed.bars(error.account.as_of)
        account = error.account.with_prices(last_closes_by_symbol(bars))
        return Cycle(account, bars, None, idle_reason=str(error))

    def _batches(self) -> Iterator[OrderBatch]:
        """Yield batches of unsent orders: those of earlier decisions, then those of a new decision.

        If an order that the new decision replaces has filled in the meantime, a second decision is
        made and yielded. The last batch belongs to this cycle.
        """
        self._filled = False
        ours = self._settings.tradable_symbols
        for batch in resume_batches(self.desk, self._journal, self._live.book, ours, self._live):
            yield batch
            self._filled |= bool(batch.fills)
        seconds = self._settings.decision_valid_seconds
        for is_last in (False, True):
            batch = record_decision_batch(
                self._decide(), self._journal, self._live, seconds, is_last_attempt=is_last
            )
            yield batch
            self._filled |= bool(batch.fills)
            if not batch.is_withdrawn:
                return

    def _finish_batch(self, batch: OrderBatch) -> Cycle:
        """Return the cycle of a sent batch, after a new equity mark if an order has filled."""
        cycle = build_finished_cycle(batch)
        if cycle.decision and cycle.decision.stated_stops and not self._settings.protect.is_on:
            print_warning_once(UNEXECUTED_STOPS_WARNING)
        self._alert_rejected_bars(
            {
                **self._missing_histories(cycle.bars),
                **self._feed.rejected_histories,
                **cycle.rejected_bars,
            }
        )
        if self._filled:
            with suppress(
                AccountReadingRejected
            ):  # alerted already, and the cycle reports what it did
                self.desk.read_and_record_mark()
        return (
            replace(cycle, unsent_reasons=self._live.book.unsent_reasons(cycle.decision_id))
            if cycle.decision_id
            else cycle
        )

    def _update_earlier_orders(self) -> None:
        """Record the outcomes of earlier orders, including those of earlier processes."""
        if not self._followed:
            if self._interrupted is not None:
                began = format_utc(self._interrupted.began_at)
                print_line(
                    f"Restart: the cycle of {began} was interrupted; its orders are queried by id,"
                    " and unsent ones are sent if the decision is still valid, else denied."
                )
            self._journal.deny_unsent_orders()
            self._reducer.cancel_orders_of_ended_commands()
            self._followed = True
        self.desk.refresh_open_orders()

    def _decide(self) -> Cycle:
        evidence = self._journal.last_evidence()
        return run_decision_cycle(
            self.desk,
            self._feed,
            self._trader.with_evidence_state(None if evidence is None else evidence.state),
            self._settings,
            rules=self._rules,
            time=self._connection.time,
            validator=self._validator,
            journal=self._journal,
            live=self._live,
            peak_equity=read_highest_equity(self._live.account.database, TRADE_JOB)
            if self._settings.guards.tiers
            else 0.0,
        )

    def _record_undecided(self, reasons: Mapping[str, str]) -> None:
        """Record why symbols have no decision, if the reasons differ from those last recorded."""
        events = self._live.account.events
        if reasons != events.last_undecided_reasons(TRADE_JOB):
            events.append(UNDECIDED_SYMBOLS_EVENT, TRADE_JOB, dict(reasons))

    def _alert_rejected_bars(self, rejected_bars: Mapping[str, str]) -> None:
        """Send alerts about symbols whose last bar is rejected.

        rejected_bars: reason by symbol.
        """
        reasons = "; ".join(f"{symbol}: {why}" for symbol, why in sorted(rejected_bars.items()))
        self._live.notices.update_alert(
            "bars", f"bars rejected, not traded: {reasons}" if reasons else ""
        )

    def _missing_history_reason(self, account: AccountSnapshot) -> str:
        """Return why no decision is made because the history of a symbol is missing, or "".

        Without forecasts for that symbol, the other symbols would get its share of the limits. Only
        the first cycle waits for the history. It does not wait if the cycle before, in this or an
        earlier process, already found the same history missing.
        """
        if self._made > 1:
            return ""
        gone = self._missing_histories(self._feed.bars(account.as_of))
        why = "; ".join(f"{symbol}: {why}" for symbol, why in gone.items())
        if not why or why == self._last_idle:
            return ""
        self._alert_rejected_bars(gone)
        return why

    def _missing_histories(self, bars: Bars) -> dict[str, str]:
        ours = self._decided & self._settings.tradable_symbols
        return missing_history_reasons(bars, ours, self._settings.forecaster.context_bars)

    def finish(self, *, flatten: bool) -> list[str]:
        self.desk.refresh_open_orders()
        left, troubles = [], ""
        if flatten:
            left = self._close_positions()
        else:
            # Stops protect positions while no loop runs; a kill cancels every order.
            stays = not self._live.account.has_kill_file
            result = self._reducer.cancel_open_orders(keep_stops=stays)
            troubles = "; ".join(result.reasons.values())
            self._reducer.release_symbols()
        self.update_protection()
        if self._settings.protect.is_on:
            print_line(f"Stops that stay at the venue: {self._protection.resting_count}.")
        if troubles:
            raise BrokerError(troubles)
        return left

    def _close_positions(self) -> list[str]:
        """Close all our positions as a command does; describe the positions that stay open.

        A closing that waits is retried for ten minutes. A position that cannot be closed keeps its
        stop at the venue.
        """
        now = self._connection.now_or_estimate()
        command = Command(f"kill-{format_compact_utc(now)}", "flatten", "", KILL, now, now)
        reasons: Mapping[str, str] = {}
        failure: BrokerError | None = None
        for _ in self._connection.time.delayed_attempts(FLATTEN_DELAYS_SECONDS):
            try:
                plan, _ = self._reducer.execute_steps(command)
            except BrokerError as error:
                failure = error
                log.warning("closing positions: %s", error)
                continue
            reasons, failure = {**plan.not_reduced, **plan.waiting}, None
            if not plan.waiting:
                break
        if failure is not None:
            raise failure
        # Positions without a price are open too, and were not closed.
        held = {s: each.quantity for s, each in self._connection.positions().items()}
        ours = self._reducer.find_closable_positions(held)
        return [
            f"{held[symbol]:f} {symbol}" + (f" ({reasons[symbol]})" if symbol in reasons else "")
            for symbol in sorted(ours)
        ]

    def trades_symbol(self, symbol: str) -> bool:
        return symbol in self._settings.tradable_symbols or bool(
            net_fills_by_symbol(self._live.book, TRADE_JOB).get(symbol)
        )

    def reduce_positions(self, command: Command) -> CommandOutcome:
        outcome = self._reducer.reduce(command)
        if outcome.done and not (outcome.waiting and command.is_unanswered):
            with suppress(AccountReadingRejected):  # alerted already
                self.desk.read_and_record_mark()
        self.update_protection()
        return outcome
