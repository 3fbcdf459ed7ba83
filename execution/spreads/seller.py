"""Sells spreads, follows them and books what they did, one step at a time.

A step looks at what is open (`state.py`), asks the venue what became of orders whose fate is open,
applies the rules of `rules.py` to what buying back costs now, settles what has expired, and sells
what the entries that are due offer (`offers.py`). The process may be killed anywhere and goes on:
every intention is written before it is sent, and nothing is sent twice.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import numpy as np
import pandas as pd

from execution.spreads.offers import SellerTerms, SpreadOffers, new_york_text
from execution.spreads.orders import Contract, SpreadVenue, net_price
from execution.spreads.rules import SpreadRules
from execution.spreads.state import OpenSpread, SellerState, read_state, write_state
from foundation.errors import InputError, OrderRejected, OutcomeUnknown
from foundation.notices import Notices
from sizing.autoscaler.account import UnknownState
from sizing.autoscaler.now import account_files
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
        self._account = account_files(terms.sizing, terms.mode)
        self._folder: Path = self._account.folder

    def step(self) -> SellerState:
        """Follow what is open, sell what is due, and return what is open then.

        Raises
        ------
        UnknownState
            for a file of open spreads that cannot be read; nothing was sent.
        BrokerError
            for a venue that does not answer; the next step goes on.
        """
        try:
            state = read_state(self._folder)
        except UnknownState as error:
            self._notices.alert(
                "unknown_state", f"{self._terms.mode}: unknown state, nothing is ordered: {error}"
            )
            raise
        now = self._venue.now()
        state = self._follow_all(state, now)
        session = session_of(new_york_date(np.array([now]))[0])
        if session is not None and session.opens <= now < session.closes:
            for rules in self._terms.rules:
                state = self._enter_due(state, rules, session, now)
        return state

    def _save(self, state: SellerState) -> SellerState:
        write_state(self._folder, state)
        return state

    def _follow_all(self, state: SellerState, now: np.datetime64) -> SellerState:
        """The state once every open spread was looked after.

        Raises
        ------
        InputError
            the first that a spread met, after all of them were looked after.
        """
        failures: list[InputError] = []
        for spread in state.spreads:
            # Trouble with one spread must not keep the stops of the others from being seen.
            try:
                state = self._follow(state, spread, now)
            except InputError as error:
                failures.append(error)
                # Whatever the spread had come to before the error is in the file.
                state = read_state(self._folder)
        if failures:
            raise failures[0]
        return state

    def _follow(self, state: SellerState, spread: OpenSpread, now: np.datetime64) -> SellerState:
        """The state once one spread was looked after."""
        # An order that was on its way when the last step ended may have filled since, or never
        # have reached the venue. The venue knows, and nothing is decided before it has said so.
        if spread.stage == "opening":
            fill = self._venue.fate(spread.trade_id)
            if fill is None or fill.contracts == 0:
                log.info("%s: was not sold", spread.trade_id)
                return self._save(state.without(spread.trade_id))
            spread = spread.after_opening(fill)
            state = self._save(state.with_spread(spread))
        if spread.stage == "closing":
            spread = spread.after_closing(self._venue.fate(spread.closing_id))
            state = self._save(state.with_spread(spread))
        if spread.remaining == 0:
            return self._book(state, spread, now, None)
        session = session_of(np.datetime64(spread.options[0].expiry, "D"))
        if session is None or now >= session.closes:
            return self._settle(state, spread, session)
        if now < session.opens:
            return state
        return self._apply_rules(state, spread, float((now - session.opens) / MINUTE), now)

    def _apply_rules(
        self, state: SellerState, spread: OpenSpread, minute: float, now: np.datetime64
    ) -> SellerState:
        """The state once the rules have looked at what buying a spread back costs."""
        # A reason to leave stands until all is bought back, also where a closing order failed.
        if not spread.why:
            price = net_price(spread.closing_order().legs, self._venue.quotes(spread.options))
            if price is None:
                self._notices.alert(
                    f"blind {spread.trade_id}",
                    f"{spread.trade_id}: a leg has no quote, no stop can be seen",
                )
                return state
            self._notices.end_alert(f"blind {spread.trade_id}")
            rules = self._rules_of(spread.strategy)
            running, why = spread.running.after(float(-price), minute, rules)
            cost = Decimal(str(running.cost))
            spread = replace(spread, asked=cost, best=running.best, why=why or "")
            state = self._save(state.with_spread(spread))
        return self._buy_back(state, spread, now) if spread.why else state

    def _rules_of(self, strategy: str) -> SpreadRules:
        """The rules of a strategy; the first ones for a strategy that is sold no more."""
        for rules in self._terms.rules:
            if rules.strategy == strategy:
                return rules
        return self._terms.rules[0]

    def _buy_back(self, state: SellerState, spread: OpenSpread, now: np.datetime64) -> SellerState:
        """The state once what remains of a spread was ordered back."""
        # Where the venue does not hold these options, buying them would open a position.
        if not self._positions_agree(state, lambda option: option in spread.options):
            return state
        spread = replace(spread, stage="closing", attempts=spread.attempts + 1)
        state = self._save(state.with_spread(spread))
        try:
            fill = self._venue.submit(spread.closing_order())
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

    def _settle(
        self, state: SellerState, spread: OpenSpread, session: Session | None
    ) -> SellerState:
        """The state once a spread that has expired was booked at what it settles at."""
        index = None if session is None else self._venue.close_of(spread.options[0].expiry)
        if index is None or session is None:
            log.warning(
                "%s has expired, and the close it settles at is not known yet", spread.trade_id
            )
            return state
        settled_at = Decimal(str(round(spread.spread.settles_at(index), 2)))
        return self._book(state, spread, session.closes, settled_at)

    def _book(
        self, state: SellerState, spread: OpenSpread, at: np.datetime64, settled_at: Decimal | None
    ) -> SellerState:
        """The state once a closed spread is in the account's files."""
        trade = spread.closed_trade(self._terms.costs, new_york_text(at), settled_at)
        # The trade is booked before the spread is taken off the state. A crash between the two
        # books it a second time, which changes nothing: the account knows a trade by its id.
        try:
            account = self._account.record(trade)
            log.info(
                "%s closed: %s, $%s; balance $%s",
                trade.trade_id,
                trade.exit_reason,
                trade.total,
                float(account.balance),
            )
        except UnknownState as error:
            # The spread stays in the state until the account can be read and takes it.
            self._notices.alert(
                "unknown_state",
                f"{self._terms.mode}: {trade.trade_id} closed with ${trade.total}: {error}",
            )
            return state
        except InputError as error:
            # It is booked with another result, which only a person can sort out.
            self._notices.alert(f"booked {trade.trade_id}", str(error))
        return self._save(state.without(spread.trade_id))

    def _enter_due(
        self, state: SellerState, rules: SpreadRules, session: Session, now: np.datetime64
    ) -> SellerState:
        """The state once the entries of a strategy that are due were dealt with."""
        # Half-days have no entries: distances and exits count the minutes to 16:00.
        if not session.whole:
            return state
        minute = float((now - session.opens) / MINUTE)

        def expires_today(option: Contract) -> bool:
            expiry = np.datetime64(option.expiry, "D")
            return option.root == self._terms.root and bool(expiry == session.date)

        for entry in rules.entries:
            name = f"{rules.strategy}-{_day_text(session)}-{entry:03d}"
            due = entry <= minute < min(entry + self._terms.window, rules.latest)
            if due and name not in state.tried and self._positions_agree(state, expires_today):
                state = self._sell(state, rules, session, name, now)
        return state

    def _positions_agree(self, state: SellerState, concerned: Callable[[Contract], bool]) -> bool:
        """Whether the venue holds what the state says, among the options concerned."""
        expected = Counter[Contract]()
        positions = self._venue.held()
        for spread in state.spreads:
            for leg in spread.option_legs:
                expected[leg.contract] += spread.remaining * leg.direction
        contracts = (each for each in {*expected, *positions} if concerned(each))
        different = [each for each in contracts if expected[each] != positions.get(each, 0)]
        if different:
            symbols = ", ".join(sorted(contract.symbol for contract in different))
            text = (
                f"nothing is ordered: the venue holds other options than are open here: {symbols}"
            )
            self._notices.alert("positions", text)
            return False
        self._notices.end_alert("positions")
        return True

    def _sell(
        self,
        state: SellerState,
        rules: SpreadRules,
        session: Session,
        name: str,
        now: np.datetime64,
    ) -> SellerState:
        """The state once one entry was dealt with."""
        # An entry is dealt with once, whatever comes of it: its name is the id of its order, and no
        # id is sent twice.
        state = state.with_entry(name, _day_text(session))
        offer = self._offers.offer(rules, session, name, now)
        if offer is None:
            return self._save(state)
        state = self._save(state.with_spread(offer))
        try:
            fill = self._venue.submit(offer.opening_order())
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
