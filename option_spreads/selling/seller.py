"""Sells spreads, follows them and books what they did, one step at a time.

A step looks at what is open (`state.py`), asks the venue what became of orders whose fate is open,
applies the rules of `rules.py` to what buying back costs now, settles what has expired, and sells
what the entries that are due offer (`offers.py`). The process may be killed anywhere and goes on:
every intention is written before it is sent, and nothing is sent twice.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal

import numpy as np
import pandas as pd

from execution.option_orders import Contract, SpreadVenue, net_price
from foundation.errors import BrokerError, OrderRejected, OutcomeUnknown
from foundation.notices import Notices
from option_spreads.autoscaler.account import UnknownState
from option_spreads.selling.books import SpreadBooks
from option_spreads.selling.holdings import different_options
from option_spreads.selling.late import tell_of_late
from option_spreads.selling.offers import SellerTerms, SpreadOffers
from option_spreads.selling.rules import SpreadRules
from option_spreads.selling.state import (
    OpenSpread,
    SellerState,
    read_state,
    set_state_aside,
    write_state,
)
from option_spreads.selling.troubles import Troubles
from trainingdata.instants import new_york_date
from trainingdata.sessions import Session, session_of

log = logging.getLogger(__name__)

MINUTE = np.timedelta64(1, "m")


class SpreadSeller:
    """The seller of one account.

    vix: gives the closes of the volatility index by date, read anew at every call.
    notices: told of whatever needs a person.
    """

    def __init__(
        self,
        venue: SpreadVenue,
        terms: SellerTerms,
        vix: Callable[[], pd.Series],
        notices: Notices,
    ) -> None:
        self._venue = venue
        self._terms = terms
        self._offers = SpreadOffers(venue, terms, vix, notices)
        self._notices = notices
        self._books = SpreadBooks(terms, notices)
        self._last: SellerState | None = None
        self.leaving = False  # whether everything is bought back, and nothing sold

    @property
    def spreads(self) -> tuple[OpenSpread, ...]:
        """What is open, or on its way, as it was last written."""
        return () if self._last is None else self._last.spreads

    def step(self) -> SellerState:
        """Follow what is open, sell what is due, and return what is open then.

        Where the file of open spreads has become unreadable since the last step, what that step
        left open is followed, and nothing is sold. Trouble with one spread keeps neither the others
        from being followed nor holdings from being compared, but nothing is sold then.

        Raises
        ------
        UnknownState
            for a file of open spreads that cannot be read, before the first step; nothing was sent.
        InputError, OSError, ArithmeticError, ValueError, LookupError, TypeError
            the first trouble that was met, a venue that does not answer among them; the next step
            goes on.
        """
        state, certain = self._read()
        now = self._venue.now()
        troubles = Troubles(self._notices)
        state = self._follow_all(state, now, troubles)
        session = session_of(new_york_date(np.array([now]))[0])
        if session is not None and session.opens <= now < session.closes:
            with troubles.told("holdings"):
                certain = self._holdings_agree(state, session) and certain
            if certain and not troubles.met and not self.leaving:
                with troubles.told("entries"):
                    for rules in self._terms.rules:
                        state = self._enter_due(state, rules, session, now)
        troubles.raise_first()
        return state

    def _read(self) -> tuple[SellerState, bool]:
        """What is open, and whether the file says it."""
        try:
            state = read_state(self._books.folder, missing=not self.spreads)
        except UnknownState as error:
            self._notices.alert(
                "open_spreads", f"{self._terms.mode}: unknown state, nothing is sold: {error}"
            )
            if self._last is None:
                raise
            # What this process left open has stops to be seen. The damaged file is kept.
            set_state_aside(self._books.folder)
            return self._save(self._last), False
        self._notices.end_alert("open_spreads")
        self._last = state
        return state, True

    def _save(self, state: SellerState) -> SellerState:
        self._last = state
        write_state(self._books.folder, state)
        return state

    def _follow_all(
        self, state: SellerState, now: np.datetime64, troubles: Troubles
    ) -> SellerState:
        """The state once every open spread was looked after."""
        # What is certain is looked after first: asking for an order of unknown fate takes its time.
        for spread in sorted(state.spreads, key=lambda each: each.stage != "open"):
            # Trouble with one spread must not keep the stops of the others from being seen.
            before = len(troubles.met)
            with troubles.told(spread.trade_id):
                state = self._follow(state, spread, now)
            # Whatever the spread had come to before the trouble is in the file.
            if len(troubles.met) > before:
                state, _ = self._read()
        return state

    def _follow(self, state: SellerState, spread: OpenSpread, now: np.datetime64) -> SellerState:
        """The state once one spread was looked after."""
        if spread.stage != "open":
            state, followed = self._after_fate(state, spread)
            if followed is None:
                return state
            spread = followed
        if spread.remaining == 0:
            return self._book(state, spread, now, None)
        session = spread.last_session
        if session is None or now >= session.closes:
            return self._settle(state, spread, session, now)
        if now >= self._terms.ordered_until(session):
            return self._after_cutoff(state, spread, session)
        if now < session.opens:
            return state
        return self._apply_rules(state, spread, session, now)

    def _after_fate(
        self, state: SellerState, spread: OpenSpread
    ) -> tuple[SellerState, OpenSpread | None]:
        """The state, and the spread, once the venue has said what became of its last order.

        No spread where it was not sold, and where the venue does not say: an order may have filled
        since, or fill yet, and nothing is decided before that is known.
        """
        opening = spread.stage == "opening"
        name = spread.trade_id if opening else spread.closing_id
        kind = f"{spread.stage} {spread.trade_id}"
        fate = self._venue.fate(name)
        if fate == "open" and self._holds_as_before(state, spread):
            fate = self._venue.ask_again(name)
        if fate == "open":
            self._notices.alert(
                kind, f"{name}: the venue does not say what became of it; it may be working"
            )
            return state, None
        self._notices.end_alert(kind)
        begun = fate is not None or self._venue.was_begun(name)
        if opening and not begun:
            # Whoever wrote the spread down ended before its order could leave: nothing was tried.
            log.info("%s: was never sent, and may be sold yet", name)
            return self._save(state.without_entry(name)), None
        if opening and (fate is None or fate.contracts == 0):
            log.info("%s: was not sold", name)
            return self._save(state.without(name)), None
        if opening and fate:
            spread = spread.after_opening(fate)
        else:
            spread = spread.after_closing(fate) if begun else spread.never_left()
        return self._save(state.with_spread(spread)), spread

    def _holds_as_before(self, state: SellerState, spread: OpenSpread) -> bool:
        """Whether the venue holds of a spread's options what its last order was sent on.

        It may hold less or more by now, by an order that has landed or by hand: the same order sent
        again would open a position.
        """
        others = state.without(spread.trade_id).spreads
        held = () if spread.stage == "opening" else (replace(spread, stage="open"),)
        different = different_options(
            (*others, *held), self._venue.held(), lambda option: option in spread.options
        )
        if different:
            symbols = ", ".join(sorted(contract.symbol for contract in different))
            log.warning("%s: not sent again: %s are held otherwise", spread.trade_id, symbols)
        return not different

    def _apply_rules(
        self, state: SellerState, spread: OpenSpread, session: Session, now: np.datetime64
    ) -> SellerState:
        """The state once the rules have looked at what buying a spread back costs."""
        # A reason to leave stands until all is bought back, also where a closing order failed.
        if self.leaving and not spread.why:
            spread = replace(spread, why="flattened")
        if not spread.why:
            rules = self._terms.rules_of(spread.strategy)
            minute = float((now - session.opens) / MINUTE)
            leaving = rules.must_leave(minute)
            price = self._price(spread, needed=not leaving)
            if price is not None:
                running, why = spread.running.after(float(-price), minute, rules)
                cost = Decimal(str(running.cost))
                spread = replace(spread, asked=cost, best=running.best, why=why or "")
            elif leaving:
                # An order at the market needs no quote, and shares would be delivered without it.
                spread = replace(spread, why="time")
            else:
                return state
            state = self._save(state.with_spread(spread))
        return self._buy_back(state, spread, session, now) if spread.why else state

    def _price(self, spread: OpenSpread, *, needed: bool) -> Decimal | None:
        """Points that buying a spread back brings in; None where a leg has no quote.

        needed: whether a venue that does not answer is trouble.
        """
        kind = f"blind {spread.trade_id}"
        price = None
        why = "a leg has no quote"
        try:
            price = net_price(spread.closing_legs, self._venue.quotes(spread.options))
        except BrokerError as error:
            if needed:
                raise
            why = str(error)
        if price is None:
            self._notices.alert(kind, f"{spread.trade_id}: {why}, no stop can be seen")
        else:
            self._notices.end_alert(kind)
        return price

    def _buy_back(
        self, state: SellerState, spread: OpenSpread, session: Session, now: np.datetime64
    ) -> SellerState:
        """The state once what remains of a spread was ordered back."""
        # Where the venue does not hold these options, buying them would open a position.
        kind = f"leaving {spread.trade_id}"
        if not self._positions_agree(state, lambda option: option in spread.options):
            self._notices.alert(
                kind,
                f"{spread.trade_id} is not bought back ({spread.why}): of its options the venue"
                " holds others than are open here",
            )
            return state
        self._notices.end_alert(kind)
        spread = replace(spread, stage="closing", attempts=spread.attempts + 1)
        state = self._save(state.with_spread(spread))
        try:
            fill = self._venue.submit(spread.closing_order(self._terms.ordered_until(session)))
        except OrderRejected as error:
            self._notices.alert(
                f"closing {spread.trade_id}", f"cannot be bought back ({spread.why}): {error}"
            )
            return self._save(state.with_spread(spread.after_closing(None)))
        except OutcomeUnknown as error:
            # The spread stays `closing`, and the next step asks the venue what became of the order.
            self._notices.alert(f"closing {spread.trade_id}", str(error))
            return state
        spread = spread.after_closing(fill)
        state = self._save(state.with_spread(spread))
        return self._book(state, spread, now, None) if spread.remaining == 0 else state

    def _after_cutoff(
        self, state: SellerState, spread: OpenSpread, session: Session
    ) -> SellerState:
        """The state once it was said that no order ends a spread, and whether it is still held."""
        tell_of_late(spread, self._terms, session, self._notices, leaving=self.leaving)
        # What the broker has closed by itself does not settle at the close. The clock is read after
        # what is held: once the session has ended nothing is, whoever has closed it.
        agree = self._positions_agree(state, lambda option: option in spread.options)
        # One answer may be wrong: what is held again was never closed.
        if spread.gone != agree or self._venue.now() >= session.closes:
            return state
        return self._save(state.with_spread(replace(spread, gone=not agree)))

    def _settle(
        self, state: SellerState, spread: OpenSpread, session: Session | None, now: np.datetime64
    ) -> SellerState:
        """The state once a spread that has expired was booked at what it settles at."""
        index = None if session is None else self._venue.close_of(spread.options[0].expiry)
        settled_at = self._books.settlement(spread, index, session, now)
        if session is None or settled_at is None:
            return state
        return self._book(state, spread, session.closes, settled_at)

    def _book(
        self, state: SellerState, spread: OpenSpread, at: np.datetime64, settled_at: Decimal | None
    ) -> SellerState:
        """The state once a closed spread is in the account's files."""
        # The trade is booked before the spread is taken off the state. A crash between the two
        # books it a second time, which changes nothing: the account knows a trade by its id. Until
        # the account can be read and takes it, the spread stays in the state.
        booked = self._books.book(spread, at, settled_at)
        if booked:
            for kind in ("blind", "leaving", "closing", "late"):
                self._notices.end_alert(f"{kind} {spread.trade_id}")
        return self._save(state.without(spread.trade_id)) if booked else state

    def _enter_due(
        self, state: SellerState, rules: SpreadRules, session: Session, now: np.datetime64
    ) -> SellerState:
        """The state once the entries of a strategy that are due were dealt with."""
        # Half-days have no entries: distances and exits count the minutes to 16:00.
        latest = self._terms.ordered_until(session)
        if not session.whole or now >= latest:
            return state
        minute = float((now - session.opens) / MINUTE)

        def expires_today(option: Contract) -> bool:
            expiry = np.datetime64(option.expiry, "D")
            return option.root == self._terms.root and bool(expiry == session.date)

        for entry in rules.entries:
            name = f"{rules.strategy}-{_day_text(session)}-{entry:03d}"
            due = entry <= minute < min(entry + self._terms.window, rules.latest)
            due = due and name not in state.tried and not state.is_pending(now)
            if due and self._positions_agree(state, expires_today):
                last = min(entry + self._terms.window, rules.latest)
                until = session.opens + np.timedelta64(round(last * 60_000), "ms")
                state = self._sell(state, rules, session, name, now, min(until, latest))
        return state

    def _holdings_agree(self, state: SellerState, session: Session) -> bool:
        """Whether the venue holds what the state says."""
        today = session.date.astype(object)

        def concerned(option: Contract) -> bool:
            return bool(option.root == self._terms.root and option.expiry >= today)

        agree = self._positions_agree(state, concerned)
        if agree:
            self._notices.end_alert("positions")
        return agree

    def _positions_agree(self, state: SellerState, concerned: Callable[[Contract], bool]) -> bool:
        """Whether the venue holds what the state says, among the options concerned."""
        different = different_options(state.spreads, self._venue.held(), concerned)
        if different:
            symbols = ", ".join(sorted(contract.symbol for contract in different))
            text = (
                f"nothing is ordered: the venue holds other options than are open here: {symbols}"
            )
            self._notices.alert("positions", text)
            return False
        return True

    def _sell(
        self,
        state: SellerState,
        rules: SpreadRules,
        session: Session,
        name: str,
        now: np.datetime64,
        until: np.datetime64,
    ) -> SellerState:
        """The state once one entry was dealt with, which may be sold `until` an instant."""
        # An entry is dealt with once, whatever comes of it: its name is the id of its order, and no
        # id is sent twice.
        state = state.with_entry(name, _day_text(session))
        offer = self._offers.offer(rules, session, name, now, state.spreads)
        if offer is None:
            return self._save(state)
        state = self._save(state.with_spread(offer))
        try:
            fill = self._venue.submit(offer.opening_order(until))
        except OrderRejected as error:
            log.warning("%s", error)
            return self._save(state.without(name))
        except OutcomeUnknown as error:
            # The spread stays `opening`, and the next step asks the venue what became of the order.
            self._notices.alert(f"opening {name}", str(error))
            return state
        if fill.contracts == 0:
            log.info("%s: nobody paid %s", name, offer.credit)
            return self._save(state.without(name))
        log.info("%s: %d sold at %s: %s", name, fill.contracts, fill.credit, " ".join(offer.legs))
        return self._save(state.with_spread(offer.after_opening(fill)))


def _day_text(session: Session) -> str:
    return str(session.date).replace("-", "")
