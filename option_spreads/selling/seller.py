"""Seller that sells, monitors and books option spreads, one step at a time.

A step reads the open spreads (`state.py`) and queries orders of unknown outcome at the venue. It
applies the exit rules (`rules.py`) to the current costs of buying back, and books expired spreads.
Then it sells new spreads whose entry time has come. The process may be killed at any time. It
resumes after a restart, because every order is written to disk before it is sent, and no order is
sent twice.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from decimal import ROUND_FLOOR, Decimal
from fractions import Fraction
from typing import Protocol

import numpy as np
import pandas as pd

from execution.alpaca.options import AlpacaSpreadAccount
from execution.orders.gate import OrderGate
from execution.orders.option_orders import (
    OptionContract,
    OptionLeg,
    OrderNeverSent,
    SpreadFill,
    net_credit,
)
from foundation.decimals import CENT
from foundation.errors import BrokerError, InputError, OrderRejected, OutcomeUnknown
from foundation.formatting import format_short_usd
from foundation.notifier import Notifier
from option_spreads.autoscaler.account import ConflictingBooking, UnknownAccountState
from option_spreads.autoscaler.contract_sizing import size_contracts
from option_spreads.autoscaler.rules import ContractCount, compute_max_risk
from option_spreads.selling.rules import Spread, SpreadRules, build_option_legs, minutes_since_open
from option_spreads.selling.settings import ACCOUNT_MODE, SellingSettings
from option_spreads.selling.state import (
    STATE_FILE,
    OpenSpread,
    SellerState,
    find_option_discrepancies,
    quarantine_state,
    read_state,
    total_collateral,
    write_state,
)
from trainingdata.instants import NEW_YORK, new_york_date
from trainingdata.sessions import Session, session_on
from trainingdata.volatility_index import estimate_intraday_volatility_index

log = logging.getLogger(__name__)

# Errors that may be gone at the next step: responses, files, numbers. Other errors are bugs.
RETRYABLE_ERRORS = (OSError, ArithmeticError, ValueError, LookupError, TypeError, RecursionError)

# Time from the close until an unknown close is alerted. A feed of the whole market may deliver it
# to unpaid accounts a quarter of an hour late.
SETTLEMENT_ALERT_DELAY = np.timedelta64(30, "m")

NO_FILL = SpreadFill(0, Decimal(0))
SPREAD_ALERT_KINDS = ("blind", "leaving", "closing", "late", "settling")


@contextmanager
def alert_failures(notices: Notifier, step_part: str) -> Iterator[None]:
    """Alert an error of the `with` block and re-raise it; if the block succeeds, end the alert.

    step_part: name of the block; the kind of the alert is `step` and this name.
    """
    kind = f"step {step_part}"
    try:
        yield
    except RETRYABLE_ERRORS as error:
        notices.alert(kind, format_error(error))
        raise
    notices.reset_alert(kind)


def format_error(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text if isinstance(error, InputError) else f"{type(error).__name__}: {text}"


class SellerAccount(Protocol):
    """Interface of the account in which spreads are sold."""

    def reconcile(self) -> None:
        """Reconcile the whole account with the journal."""
        ...

    def build_gate(self, spreads: Sequence[OpenSpread]) -> OrderGate:
        """Return the gate that checks a spread order while these spreads are open."""
        ...


class SpreadSeller:
    """Seller of option spreads in one account.

    venue: quotes, positions and orders of options.
    read_vix_closes: function that reads the daily closes of the volatility index, by date.
    notices: receiver of alerts for operators.
    account: account that is reconciled before a sale and supplies the gates of orders.
    exiting: true to buy back all open spreads, and to sell none.
    """

    def __init__(
        self,
        venue: AlpacaSpreadAccount,
        settings: SellingSettings,
        read_vix_closes: Callable[[], pd.Series],
        notices: Notifier,
        account: SellerAccount,
    ) -> None:
        self._venue = venue
        self._settings = settings
        self._vix = read_vix_closes
        self._notices = notices
        self._line = account
        self._account = settings.account_files
        self._state = SellerState()
        self.has_read = False  # true once the open spreads were read from the account's file
        self._met: list[Exception] = []
        self.exiting = False

    @property
    def spreads(self) -> tuple[OpenSpread, ...]:
        """Return the last saved spreads: open ones, and ones with an order in flight."""
        return self._state.spreads

    def step(self) -> SellerState:
        """Monitor open spreads, sell new spreads at due entry times, and return the new state.

        If the file of open spreads has become unreadable, the seller monitors the spreads of the
        previous step, and sells nothing. A failure with one spread does not stop the monitoring of
        other spreads or the comparison of positions, but no new spread is sold. The account is
        reconciled after the monitoring, so that a failed reconciliation does not stop it.

        Raises
        ------
        UnknownAccountState
            for an unreadable file of open spreads at the first step; no order was sent.
        InputError, OSError, ArithmeticError, ValueError, LookupError, TypeError
            the step's first failure, such as a venue that does not respond. It was alerted, and the
            next step continues.
        """
        with alert_failures(self._notices, "file"):
            certain = self._read_spreads()
        with alert_failures(self._notices, "clock"):
            now = self._venue.now()
        self._met = []
        # Spreads in a certain state come first: querying an order of unknown outcome takes time.
        for spread in sorted(self.spreads, key=lambda each: each.stage != "open"):
            with self._alert_part_failure(spread.trade_id):
                self._process_spread(spread, now)
        session = session_on(new_york_date(np.array([now]))[0])
        if session is None or not session.opens <= now < session.closes:
            session = None
        else:
            with self._alert_part_failure("holdings"):
                certain = self._are_unexpired_holdings_equal(session) and certain
        if not self.exiting:
            with self._alert_part_failure("reconciling"):
                self._line.reconcile()
        if session is not None and certain and not self._met and not self.exiting:
            with self._alert_part_failure("entries"):
                for rules in self._settings.strategy_rules:
                    self._process_due_entries(rules, session, now)
        return self._finish_step()

    def cancel_working_orders(self) -> None:
        """Cancel working orders at the venue, and save their outcomes; send no new order."""
        self._met = []
        for spread in self.spreads:
            if spread.stage != "open":
                with self._alert_part_failure(spread.trade_id):
                    self._resume_order(spread, send_again=False)
        self._finish_step()

    @contextmanager
    def _alert_part_failure(self, what: str) -> Iterator[None]:
        """Alert an error of the block `what` and suppress it, so that the step continues."""
        try:
            with alert_failures(self._notices, what):
                yield
        except RETRYABLE_ERRORS as error:
            self._met.append(error)

    def _finish_step(self) -> SellerState:
        """Return the state after the step, or raise the first error that the step suppressed."""
        if self._met:
            raise self._met[0]
        return self._state

    def _read_spreads(self) -> bool:
        """Read the file of open spreads, which an operator may have edited.

        Return whether it is readable. An unreadable file is quarantined and written again from the
        previous step; at the first step it raises UnknownAccountState.
        """
        try:
            self._state = read_state(self._account.folder, may_be_missing=not self.spreads)
        except UnknownAccountState as error:
            if not self.has_read:
                raise
            self._notices.alert(
                "open_spreads",
                f"{ACCOUNT_MODE}: unknown account state, no spreads are sold: {error}",
            )
            # The stops of these spreads must be watched. The damaged file is kept.
            quarantine_state(self._account.folder)
            self._save_state(self._state)
            return False
        self.has_read = True
        self._notices.reset_alert("open_spreads")
        return True

    def _save_state(self, state: SellerState) -> None:
        write_state(self._account.folder, state)
        self._state = state

    def _save_spread(self, spread: OpenSpread) -> OpenSpread:
        self._save_state(self._state.with_spread(spread))
        return spread

    def _process_spread(self, spread: OpenSpread, now: np.datetime64) -> None:
        """Advance a spread, depending on its stage and the time.

        An order in flight is queried first. An open spread is then checked against the exit rules;
        an expired one is settled, and one that was bought back is booked.
        """
        if spread.stage != "open":
            is_unchanged = self._is_holding_unchanged(spread)
            ended = self._resume_order(spread, send_again=is_unchanged)
            if ended is None:
                if not is_unchanged:
                    text = (
                        "%s: order not resubmitted: the venue's positions in its options"
                        " do not match"
                    )
                    log.warning(text, spread.trade_id)
                return
            spread = ended
        session = spread.expiry_session
        if spread.remaining_contracts == 0:
            self._book_closed_spread(spread, now, None)
        elif session is None or now >= session.closes:
            self._settle_expired_spread(spread, session, now)
        elif now >= self._settings.order_cutoff_time(session):
            self._check_after_cutoff(spread, session)
        elif now >= session.opens:
            self._apply_rules(spread, session, now)

    def _send_order(self, spread: OpenSpread, until: np.datetime64) -> OpenSpread | None:
        """Send the order that is recorded for a spread.

        Return the updated spread; None if it was not sold, or if the outcome is unknown.

        until: instant at which the order expires.
        """
        return self._record_order_outcome(
            spread, lambda: self._venue.submit(spread.build_order(until), self._build_gate())
        )

    def _resume_order(self, spread: OpenSpread, *, send_again: bool) -> OpenSpread | None:
        """Query the order of a spread that an earlier step or process left in flight.

        Return the updated spread; None if it was not sold, or if the outcome is unknown.

        send_again: true to send the order again if the venue does not know it.
        """
        gate = self._build_gate() if send_again else None
        return self._record_order_outcome(
            spread, lambda: self._venue.resume(spread.order_id, retry_gate=gate)
        )

    def _build_gate(self) -> OrderGate:
        return self._line.build_gate(self.spreads)

    def _record_order_outcome(
        self, spread: OpenSpread, ask: Callable[[], SpreadFill]
    ) -> OpenSpread | None:
        """Update the spread by the outcome of its order, save it and return it.

        Return None if the spread was not sold, or if the outcome is unknown. In the latter case the
        spread stays unchanged, because the order may still fill.

        ask: function that sends the order, or queries it, and returns the fill.
        """
        opening = spread.stage == "opening"
        kind = f"{spread.stage} {spread.trade_id}"
        fill = NO_FILL
        try:
            fill = ask()
        except OrderNeverSent as error:
            # The process that wrote the spread ended before it sent the order.
            log.info("%s", error)
            if not opening:
                return self._save_spread(spread.revert_unsent_close())
            self._save_state(self._state.without_processed_entry(spread.trade_id))
            return None
        except OrderRejected as error:
            log.warning("%s", error)
            if not opening and not error.alerted:
                self._notices.alert(
                    kind, f"{spread.trade_id} cannot be bought back ({spread.exit_reason}): {error}"
                )
        except OutcomeUnknown as error:
            # The spread is unchanged, and the next step queries the order.
            self._notices.alert(kind, str(error))
            return None
        else:
            self._notices.reset_alert(kind)
        if opening and fill.contracts == 0:
            log.info("%s: not filled at a credit of %s", spread.trade_id, spread.credit)
            self._save_state(self._state.without_spread(spread.trade_id))
            return None
        if opening:
            options = " ".join(spread.legs)
            log.info(
                "%s: sold %d at a credit of %s: %s",
                spread.trade_id,
                fill.contracts,
                fill.credit,
                options,
            )
        return self._save_spread(spread.apply_fill(fill))

    def _is_holding_unchanged(self, spread: OpenSpread) -> bool:
        """Return whether the venue's positions are as they were before the spread's last order.

        Only the spread's options are compared. They may differ after a late fill or a manual trade;
        the same order must not be sent again then, because it would open a position.
        """
        others = self._state.without_spread(spread.trade_id).spreads
        before = () if spread.stage == "opening" else (replace(spread, stage="open"),)
        held = self._venue.option_positions()
        return not find_option_discrepancies((*others, *before), held, spread.options.__contains__)

    def _apply_rules(self, spread: OpenSpread, session: Session, now: np.datetime64) -> None:
        """Check the exit rules at the current cost of buying a spread back; buy it back if due."""
        # A reason to exit remains until all is bought back, even if a closing order failed.
        if self.exiting and not spread.exit_reason:
            spread = replace(spread, exit_reason="flattened")
        if not spread.exit_reason:
            rules = self._settings.find_rules(spread.strategy)
            minute = minutes_since_open(session, now)
            leaving = rules.must_exit(minute)
            price = self._read_buyback_price(spread, needed=not leaving)
            if price is not None:
                credit, cost = float(spread.credit), float(-price)
                best = max(spread.best_profit, credit - cost)
                why = rules.find_exit_reason(credit, cost, float(spread.last_cost), best, minute)
                spread = replace(
                    spread, last_cost=Decimal(str(cost)), best_profit=best, exit_reason=why or ""
                )
            elif leaving:
                # A market order needs no quote, and without it shares would be delivered.
                spread = replace(spread, exit_reason="time")
            else:
                return
            self._save_spread(spread)
        if spread.exit_reason:
            self._buy_back(spread, session, now)

    def _read_buyback_price(self, spread: OpenSpread, *, needed: bool) -> Decimal | None:
        """Return the net credit of buying a spread back, points: minus its cost.

        The result is None, with an alert, if a leg has no quote.

        needed: true to raise BrokerError if the venue does not respond; else the result is None.
        """
        price = None
        why = "a leg has no quote"
        try:
            price = net_credit(spread.closing_legs, self._venue.quotes(spread.options))
        except BrokerError as error:
            if needed:
                raise
            why = str(error)
        blind = f"{spread.trade_id}: {why}; stops cannot be checked"
        self._notices.update_alert(f"blind {spread.trade_id}", blind if price is None else "")
        return price

    def _buy_back(self, spread: OpenSpread, session: Session, now: np.datetime64) -> None:
        """Send an order to buy back the remaining contracts of a spread, and book it if it fills.

        No order is sent, with an alert, if the venue's positions do not match the spread.
        """
        # If the venue does not hold these options, buying them would open a position.
        kind = f"leaving {spread.trade_id}"
        if not self._are_holdings_equal(spread.options.__contains__):
            self._notices.alert(
                kind,
                f"{spread.trade_id} is not bought back ({spread.exit_reason}): the venue's"
                " positions in its options differ from the open spreads; correct the position"
                f" at the broker or in {STATE_FILE}",
            )
            return
        self._notices.reset_alert(kind)
        ended = self._send_order(
            self._save_spread(spread.start_closing()), self._settings.order_cutoff_time(session)
        )
        if ended is not None and ended.remaining_contracts == 0:
            self._book_closed_spread(ended, now, None)

    def _check_after_cutoff(self, spread: OpenSpread, session: Session) -> None:
        """Alert that a spread can no longer be bought back; record whether the venue holds it."""
        # Cash-settled spreads may be held to the close.
        rules = self._settings.find_rules(spread.strategy)
        leaves = self._settings.delivers_shares or rules.exit_minute is not None
        if leaves or self.exiting or spread.exit_reason:
            until = format_new_york_time(self._settings.order_cutoff_time(session))
            self._notices.alert(
                f"late {spread.trade_id}",
                f"{spread.trade_id} still has {spread.remaining_contracts} contracts open. Its"
                f" options expire today, and since {until} New York time the broker accepts no"
                " orders for them and may close them itself. No orders are sent; check the"
                " account at the broker",
            )
        # A position that the broker has closed does not settle at the close. The clock is read
        # after the holdings: after the session nothing is held in any case. One response may be
        # wrong: a position that another response shows was never closed.
        held = any(self._are_holdings_equal(spread.options.__contains__) for _ in range(2))
        if spread.is_closed_elsewhere == held and self._venue.now() < session.closes:
            self._save_spread(replace(spread, is_closed_elsewhere=not held))

    def _settle_expired_spread(
        self, spread: OpenSpread, session: Session | None, now: np.datetime64
    ) -> None:
        """Book an expired spread at its settlement value; alert if that value is not certain."""
        expired = f"{spread.trade_id} has expired"
        by_hand = (
            "its result is unknown. Correct the account at the broker, add the trade to"
            f" trades.csv and remove it from {self._account.folder / STATE_FILE}; no spreads"
            " are sold until then"
        )
        index = None if session is None else self._venue.index_close(spread.options[0].expiry)
        if spread.is_closed_elsewhere:
            why = (
                f"{expired}, and its options were closed before that without an order of ours:"
                f" {by_hand}"
            )
        elif session is None or index is None:
            why = f"{expired}, but the closing price for its settlement is not available yet"
            if session is not None and now - session.closes < SETTLEMENT_ALERT_DELAY:
                log.warning("%s", why)
                return
            why += "; no spreads are sold until it is booked"
        elif self._settings.delivers_shares and spread.spread.may_deliver_shares(index):
            why = f"{expired} with the stock at {index:g}, so shares may be delivered: {by_hand}"
        else:
            points = round(spread.spread.settlement_value(index), 2)
            self._book_closed_spread(spread, session.closes, Decimal(str(points)))
            return
        self._notices.alert(f"settling {spread.trade_id}", why)

    def _book_closed_spread(
        self, spread: OpenSpread, at: np.datetime64, settled_at: Decimal | None
    ) -> None:
        """Book a closed spread in the account's files.

        at: instant at which the spread was closed.
        settled_at: settlement value of the contracts held to expiry, points per spread; None if all
            were bought back.
        """
        # The trade is booked before the spread leaves the state. After a crash between the two it
        # is booked again, which changes nothing: the account knows a trade by its id. Until the
        # account can book it, the spread stays in the state.
        trade = spread.to_closed_trade(self._settings.costs, format_new_york_time(at), settled_at)
        name = trade.trade_id
        try:
            account = self._account.record_trade(trade)
        except UnknownAccountState as error:
            text = (
                f"{ACCOUNT_MODE}: {name} closed with ${trade.total_profit}, but cannot be"
                f" booked: {error}"
            )
            self._notices.alert("unknown_state", text)
            return
        except ConflictingBooking as error:
            self._notices.alert(f"booked {name}", str(error))
        else:
            closed = f"{name} closed: {trade.exit_reason}, ${trade.total_profit}"
            log.info("%s; balance $%s", closed, float(account.balance))
            self._notices.reset_alert("unknown_state")
        for kind in SPREAD_ALERT_KINDS:
            self._notices.reset_alert(f"{kind} {name}")
        self._save_state(self._state.without_spread(name))

    def _are_unexpired_holdings_equal(self, session: Session) -> bool:
        """Return whether the venue's positions in unexpired options agree with the open spreads."""
        root, today = self._settings.root, session.date.astype(object)
        agree = self._are_holdings_equal(lambda each: each.root == root and each.expiry >= today)
        if agree:
            self._notices.reset_alert("positions")
        return agree

    def _are_holdings_equal(self, concerned: Callable[[OptionContract], bool]) -> bool:
        """Return whether positions of `concerned` options agree with open spreads; alert if not."""
        different = find_option_discrepancies(
            self.spreads, self._venue.option_positions(), concerned
        )
        if different:
            symbols = ", ".join(sorted(contract.symbol for contract in different))
            text = (
                "no orders are sent: the venue's option positions differ from the open"
                f" spreads: {symbols}"
            )
            self._notices.alert("positions", text)
        return not different

    def _process_due_entries(
        self, rules: SpreadRules, session: Session, now: np.datetime64
    ) -> None:
        """Sell a spread at each entry time of a strategy that is due and was not processed yet."""
        # Half-days have no entries: distances and exits count the minutes to 16:00.
        cutoff = self._settings.order_cutoff_time(session)
        if not session.is_full or now >= cutoff:
            return
        minute = minutes_since_open(session, now)
        day = f"{session.date.astype(object):%Y%m%d}"
        for entry in rules.entry_minutes:
            name = f"{rules.strategy}-{day}-{entry:03d}"
            last = min(entry + self._settings.entry_window, rules.last_entry_minute)
            due = entry <= minute < last and name not in self._state.processed_entries
            if (
                not due
                or self._state.has_pending_spread(now)
                or not self._are_unexpired_holdings_equal(session)
            ):
                continue
            # An entry is processed once, whatever its outcome: its name is the id of its order, and
            # no id is sent twice.
            state = self._state.with_processed_entry(name, day)
            offer = self._propose_entry(rules, session, name, now)
            if offer is None:
                self._save_state(state)
                continue
            self._save_state(state.with_spread(offer))
            until = session.opens + np.timedelta64(round(last * 60_000), "ms")
            self._send_order(offer, min(until, cutoff))

    def _propose_entry(
        self, rules: SpreadRules, session: Session, name: str, now: np.datetime64
    ) -> OpenSpread | None:
        """Return the spread to sell at an entry, or None; the log then has the reason.

        name: name of the entry, which becomes the id of the trade.
        """
        settings = self._settings
        closes = self._previous_closes(session)
        if closes is None:
            return None
        index = self._venue.index_level()
        previous_vix, previous_index = closes
        vix = float(estimate_intraday_volatility_index(previous_vix, index, previous_index))
        deviation = settings.implied.standard_deviation_to_close(
            index, vix, minutes_since_open(session, now)
        )
        spread = rules.propose_spread(index, vix, deviation)
        if spread is None:
            bounds = "rules.min_vix … rules.max_vix"
            log.info("%s: no entry: volatility index %.2f is outside %s", name, vix, bounds)
            return None
        expiry = session.date.astype(object)
        if (leg := self._state.find_opposite_leg(spread, expiry)) is not None:
            log.info("%s: no entry: %s would close a leg of an open spread", name, leg)
            return None
        legs = build_option_legs(spread, settings.root, expiry)
        prices = self._read_credit_and_cost(legs, name)
        if prices is None:
            return None
        credit, cost = prices
        if not rules.accepts_credit(float(credit), spread):
            log.info(
                "%s: no entry: credit %s is below rules.min_credit or not below the width",
                name,
                credit,
            )
            return None
        risk = compute_max_risk(rules.strategy, float(credit), spread.width, settings.CONDOR_RISK)
        size = size_contracts(settings.account_files, settings, risk, self._notices)
        if size.contracts == 0 or size.balance is None:
            return None
        rest = size.balance - Fraction(total_collateral(self.spreads))
        contracts = min(size.contracts, self._affordable_contracts(spread, rest, name))
        if contracts == 0:
            return None
        reason = (
            f"index {index:.2f}, volatility index {vix:.2f};"
            f" short strikes {rules.distance_and_width[0]:g} deviations of {deviation:.2f} away;"
            f" credit {credit}, {_format_size(size, risk)}"
        )
        log.info("%s: %s", name, reason)
        return OpenSpread(
            trade_id=name,
            strategy=rules.strategy,
            legs=tuple(leg.contract.symbol for leg in legs),
            stage="opening",
            contracts=contracts,
            credit=credit,
            entry_time=format_new_york_time(now),
            last_cost=cost,
            entry_reason=reason,
            balance=Decimal(f"{float(size.balance):.2f}"),
        )

    def _affordable_contracts(self, spread: Spread, rest: Fraction, name: str) -> int:
        """Return the contracts of a spread that the balance and the venue's buying power cover.

        rest: balance less the collateral of open spreads, USD. The venue's buying power already
            excludes this collateral.
        name: name of the entry, for messages.
        """
        count = spread.affordable_contracts(rest)
        if count == 0:
            text = (
                "%s: no entry: the balance less the collateral of open spreads, %s, does"
                " not cover one contract"
            )
            log.warning(text, name, format_short_usd(rest))
            return 0
        power = self._venue.buying_power()
        if power is None:
            return count
        count = min(count, spread.affordable_contracts(power))
        if count:
            self._notices.reset_alert("buying_power")
        else:
            text = f"{name}: no entry: buying power of ${power} does not cover one contract"
            self._notices.alert("buying_power", text)
        return count

    def _read_credit_and_cost(
        self, legs: Sequence[OptionLeg], name: str
    ) -> tuple[Decimal, Decimal] | None:
        """Return the current credit for selling the legs, and the cost of buying them back, points.

        The result is None, with a warning, if a leg has no quote.
        """
        options = [leg.contract for leg in legs]
        quotes = self._venue.quotes(options)
        credit = net_credit(legs, quotes)
        closing_price = net_credit([leg.closing_leg for leg in legs], quotes)
        if credit is None or closing_price is None:
            missing = " ".join(option.symbol for option in options if option not in quotes)
            log.warning("%s: no entry: no quote for %s", name, missing)
            return None
        # Limits are in cents. Rounded up, the offer would ask for more than the market pays.
        return credit.quantize(CENT, ROUND_FLOOR), -closing_price

    def _previous_closes(self, session: Session) -> tuple[float, float] | None:
        """Return the closes of the volatility index and of the index before a session, points.

        The result is None, with an alert, if one of them is unknown.
        """
        before = session.previous_date
        kind = f"volatility {session.date}"
        try:
            volatility = self._vix().get(pd.Timestamp(before))
        except InputError as error:
            self._notices.alert(kind, f"no spreads are sold: {error}")
            return None
        index = self._venue.index_close(before.astype(object))
        if volatility is None or index is None:
            what = "the volatility index" if volatility is None else "the index"
            text = f"no spreads are sold: the close of {what} on {before} is not available"
            self._notices.alert(kind, text)
            return None
        return float(volatility), index


def format_new_york_time(at: np.datetime64) -> str:
    """Format an instant as New York time, such as `2026-11-23 15:45`."""
    return f"{pd.Timestamp(at, tz='UTC').tz_convert(NEW_YORK):%Y-%m-%d %H:%M}"


def _format_size(size: ContractCount, risk: float) -> str:
    kelly = "" if size.kelly_fraction is None else f" at Kelly {float(size.kelly_fraction):.2%}"
    held = "" if size.balance is None else f"balance {format_short_usd(size.balance)}, "
    return f"{held}${risk:,.0f} at risk per contract; {size.contracts} by {size.reason}{kelly}"
