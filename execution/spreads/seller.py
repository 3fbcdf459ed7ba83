"""Sells spreads, follows them and books what they did, a step at a time; it may be killed anywhere
and goes on.

A step looks at what is open (`state.py`), asks the venue what became of orders whose fate is open,
applies the rules of `rules.py` to what buying back costs now, settles what has expired, and sells
what is due, sized by the autoscaler from the account's own trades. Every intention is written
before it is sent; nothing is sent twice.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import date
from decimal import ROUND_FLOOR, Decimal
from pathlib import Path

import numpy as np
import pandas as pd

from execution.spreads.orders import Contract, OptionLeg, SpreadVenue, contracts_of, net_price
from execution.spreads.rules import Implied, SpreadCosts, SpreadRules
from execution.spreads.state import OpenSpread, OpenSpreads, read_open, write_open
from foundation.errors import InputError, OrderRejected, OutcomeUnknown
from foundation.notices import Notices
from sizing.autoscaler.account import UnknownState
from sizing.autoscaler.now import account_files, contracts_now
from sizing.autoscaler.rules import AutoscalingSettings, Contracts, max_risk
from trainingdata.sessions import NEW_YORK, Session, new_york_date, session_of
from trainingdata.volatility_index import RESPONSE, within_day

log = logging.getLogger(__name__)

MINUTE = np.timedelta64(1, "m")
CENT = Decimal("0.01")


@dataclass(frozen=True, slots=True)
class SellerRules:
    """What is sold and how. root: of the options' symbols. rules: one a strategy. window: minutes
    after an entry's time in which it may still be sold. response: see `within_day`. mode: PAPER or
    LIVE, which account's files.
    """

    root: str
    rules: tuple[SpreadRules, ...]
    costs: SpreadCosts
    implied: Implied
    sizing: AutoscalingSettings
    window: float = 5.0
    response: float = RESPONSE
    mode: str = "PAPER"


class SpreadSeller:
    """One account's seller. vix: closes of the volatility index by date, read anew at every
    call.
    """

    def __init__(
        self, venue: SpreadVenue, told: SellerRules, vix: Callable[[], pd.Series], notices: Notices
    ) -> None:
        self._venue = venue
        self._told = told
        self._vix = vix
        self._notices = notices
        self._account = account_files(told.sizing, told.mode)
        self._folder: Path = self._account.folder

    def step(self) -> OpenSpreads:
        """Follow what is open, and sell what is due; what is open then.

        Raises
        ------
        UnknownState
            for a file of open spreads that cannot be read; nothing was sent.
        BrokerError
            for a venue that does not answer; the next step goes on.
        """
        try:
            state = read_open(self._folder)
        except UnknownState as error:
            self._notices.alert(
                "unknown_state", f"{self._told.mode}: unknown state, nothing is ordered: {error}"
            )
            raise
        now = self._venue.now()
        failed: list[InputError] = []
        for spread in state.spreads:
            try:
                state = self._followed(state, spread, now)
            except InputError as error:  # the others are followed all the same
                failed.append(error)
                state = read_open(self._folder)
        if failed:
            raise failed[0]
        session = session_of(new_york_date(np.array([now]))[0])
        if session is not None and session.opens <= now < session.closes:
            for rules in self._told.rules:
                state = self._entered(state, rules, session, now)
        return state

    def _keep(self, state: OpenSpreads) -> OpenSpreads:
        write_open(self._folder, state)
        return state

    def _followed(self, state: OpenSpreads, spread: OpenSpread, now: np.datetime64) -> OpenSpreads:
        """The state once one spread has been looked after."""
        if spread.stage == "opening":
            fill = self._venue.fate(spread.trade_id)
            if fill is None or fill.contracts == 0:
                log.info("%s: was not sold", spread.trade_id)
                return self._keep(state.without(spread.trade_id))
            spread = spread.opened(fill)
            state = self._keep(state.put(spread))
        if spread.stage == "closing":
            spread = spread.bought_back(self._venue.fate(spread.closing_id))
            state = self._keep(state.put(spread))
        session = session_of(np.datetime64(spread.options[0].expiry, "D"))
        if spread.closed == spread.contracts:
            return self._book(state, spread, now, None)
        if session is None or now >= session.closes:
            return self._settled(state, spread, session)
        if now < session.opens:
            return state
        return self._watched(state, spread, float((now - session.opens) / MINUTE), now)

    def _watched(
        self, state: OpenSpreads, spread: OpenSpread, minute: float, now: np.datetime64
    ) -> OpenSpreads:
        """The state once the rules have looked at what buying it back costs."""
        if not spread.why:
            price = net_price(spread.closing_order().legs, self._venue.quotes(spread.options))
            if price is None:
                self._notices.alert(
                    f"blind {spread.trade_id}",
                    f"{spread.trade_id}: a leg has no quote, no stop can be seen",
                )
                return state
            self._notices.over(f"blind {spread.trade_id}")
            rules = self._rules_of(spread.strategy)
            running, why = spread.running.after(float(-price), minute, rules)
            spread = replace(
                spread, asked=Decimal(str(running.asked)), best=running.best, why=why or ""
            )
            state = self._keep(state.put(spread))
        return self._bought_back(state, spread, now) if spread.why else state

    def _rules_of(self, strategy: str) -> SpreadRules:
        """The rules a strategy has now; those of the others for what is sold no more."""
        return next(
            (rules for rules in self._told.rules if rules.strategy == strategy), self._told.rules[0]
        )

    def _bought_back(
        self, state: OpenSpreads, spread: OpenSpread, now: np.datetime64
    ) -> OpenSpreads:
        """The state once what is left of a spread has been ordered back."""
        if not self._agrees(state, lambda option: option in spread.options):
            return state
        spread = replace(spread, stage="closing", attempts=spread.attempts + 1)
        state = self._keep(state.put(spread))
        try:
            fill = self._venue.submit(spread.closing_order())
        except OrderRejected as error:
            self._notices.alert(
                f"closing {spread.trade_id}", f"cannot be bought back ({spread.why}): {error}"
            )
            return self._keep(state.put(spread.bought_back(None)))
        except OutcomeUnknown as error:
            self._notices.alert(f"closing {spread.trade_id}", str(error))
            return state
        spread = spread.bought_back(fill)
        state = self._keep(state.put(spread))
        return self._book(state, spread, now, None) if spread.closed == spread.contracts else state

    def _settled(
        self, state: OpenSpreads, spread: OpenSpread, session: Session | None
    ) -> OpenSpreads:
        """The state once a spread that has expired is booked at what it settles at."""
        index = None if session is None else self._venue.close_of(spread.options[0].expiry)
        if index is None or session is None:
            log.warning(
                "%s has expired, and the close it settles at is not known yet", spread.trade_id
            )
            return state
        return self._book(
            state, spread, session.closes, Decimal(str(round(spread.spread.settles_at(index), 2)))
        )

    def _book(
        self, state: OpenSpreads, spread: OpenSpread, at: np.datetime64, settled_at: Decimal | None
    ) -> OpenSpreads:
        trade = spread.booked(self._told.costs, _new_york(at), settled_at)
        try:
            account = self._account.record(trade)
            log.info(
                "%s closed: %s, $%s; balance $%s",
                trade.trade_id,
                trade.exit_reason,
                trade.total,
                float(account.balance),
            )
        except UnknownState as error:  # it stays here until it is booked
            self._notices.alert(
                "unknown_state",
                f"{self._told.mode}: {trade.trade_id} closed with ${trade.total}: {error}",
            )
            return state
        except InputError as error:
            self._notices.alert(f"booked {trade.trade_id}", str(error))
        return self._keep(state.without(spread.trade_id))

    def _entered(
        self, state: OpenSpreads, rules: SpreadRules, session: Session, now: np.datetime64
    ) -> OpenSpreads:
        """The state once the entries of a strategy that are due have been dealt with."""
        minute = float((now - session.opens) / MINUTE)
        day = str(session.date).replace("-", "")
        today = _date(session.date)

        def of_today(option: Contract) -> bool:
            return option.root == self._told.root and option.expiry == today

        for entry in rules.entries:
            name = f"{rules.strategy}-{day}-{entry:03d}"
            due = entry <= minute < min(entry + self._told.window, rules.latest) and session.whole
            if due and name not in state.tried and self._agrees(state, of_today):
                state = self._sold(state, rules, session, name, minute, now)
        return state

    def _agrees(self, state: OpenSpreads, among: Callable[[Contract], bool]) -> bool:
        """Whether the venue holds what is open here, among these options; otherwise a person is
        told.
        """
        mine = Counter[Contract]()
        theirs = self._venue.held()
        for spread in state.spreads:
            for k, option in enumerate(spread.options):
                mine[option] += (spread.contracts - spread.closed) * (-1 if k % 2 == 0 else 1)
        if apart := sorted(
            c.symbol for c in {*mine, *theirs} if among(c) and mine[c] != theirs.get(c, 0)
        ):
            text = (
                "nothing is ordered: the venue holds other options than are open here:"
                f" {', '.join(apart)}"
            )
            self._notices.alert("positions", text)
            return False
        self._notices.over("positions")
        return True

    def _sold(
        self,
        state: OpenSpreads,
        rules: SpreadRules,
        session: Session,
        name: str,
        minute: float,
        now: np.datetime64,
    ) -> OpenSpreads:
        """The state once one entry has been dealt with."""
        state = state.tried_too(name, str(session.date).replace("-", ""))
        wanted = self._wanted(rules, session, name, minute, now)
        if wanted is None:
            return self._keep(state)
        state = self._keep(state.put(wanted))
        try:
            fill = self._venue.submit(wanted.opening_order())
        except OrderRejected as error:
            log.warning("%s", error)
            return self._keep(state.without(name))
        except OutcomeUnknown as error:
            self._notices.alert(f"opening {name}", str(error))
            return state
        if fill.contracts == 0:
            log.info("%s: nobody paid %s", name, wanted.credit)
            return self._keep(state.without(name))
        log.info("%s: %d sold at %s: %s", name, fill.contracts, fill.credit, " ".join(wanted.legs))
        return self._keep(state.put(wanted.opened(fill)))

    def _wanted(
        self, rules: SpreadRules, session: Session, name: str, minute: float, now: np.datetime64
    ) -> OpenSpread | None:
        """The spread that an entry sells; None, and why in the log, where it sells none."""
        told = self._told
        closes = self._closes_before(session)
        if closes is None:
            return None
        index = self._venue.index()
        vix = float(within_day(closes[0], index, closes[1], told.response))
        deviation = told.implied.deviation(index, vix, minute)
        spread = rules.spread(index, vix, deviation)
        if spread is None:
            log.info("%s: no entry at a volatility index of %.2f", name, vix)
            return None
        options = contracts_of(spread, told.root, _date(session.date))
        legs = [OptionLeg(option, buy=k % 2 == 1) for k, option in enumerate(options)]
        quotes = self._venue.quotes(options)
        credit = net_price(legs, quotes)
        asked = net_price([replace(leg, buy=not leg.buy) for leg in legs], quotes)
        if credit is None or asked is None:
            log.warning(
                "%s: no quote of %s", name, " ".join(o.symbol for o in options if o not in quotes)
            )
            return None
        credit = credit.quantize(CENT, ROUND_FLOOR)
        if not rules.credit_least <= credit < Decimal(str(spread.width)):
            log.info("%s: no entry at a credit of %s", name, credit)
            return None
        risk = max_risk(rules.strategy, float(credit), spread.width, told.sizing.CONDOR_RISK)
        sized = contracts_now(told.sizing, told.mode, risk, self._notices)
        if sized.number == 0:
            return None
        symbols = tuple(option.symbol for option in options)
        away = f"short strikes {rules.shape[0]:g} deviations of {deviation:.2f} away"
        why = (
            f"index {index:.2f}, volatility index {vix:.2f}; {away}; credit {credit},"
            f" {_because(sized, risk)}"
        )
        log.info("%s: %s", name, why)
        return OpenSpread(
            name,
            rules.strategy,
            symbols,
            "opening",
            sized.number,
            credit,
            _new_york(now),
            -asked,
            why,
        )

    def _closes_before(self, session: Session) -> tuple[float, float] | None:
        """Closes of the volatility index and of the index before a session; None, and an alert,
        where one is not known.
        """
        kind = f"volatility {session.date}"
        try:
            before = self._vix().get(pd.Timestamp(session.before))
        except InputError as error:
            self._notices.alert(kind, f"nothing is sold: {error}")
            return None
        close = self._venue.close_of(_date(session.before))
        if before is None or close is None:
            what = "the volatility index" if before is None else "the index"
            self._notices.alert(
                kind, f"nothing is sold: the close of {what} on {session.before} is not known"
            )
            return None
        return float(before), close


def _date(day: np.datetime64) -> date:
    return date.fromisoformat(str(day))


def _because(sized: Contracts, risk: float) -> str:
    kelly = "" if sized.kelly is None else f" at Kelly {float(sized.kelly):.2%}"
    return f"${risk:,.0f} at risk a contract; {sized.number} by {sized.why}{kelly}"


def _new_york(at: np.datetime64) -> str:
    return f"{pd.Timestamp(at, tz='UTC').tz_convert(NEW_YORK):%Y-%m-%d %H:%M}"
