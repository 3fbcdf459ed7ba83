"""What an entry offers: a spread at the market's prices, sized from the account's trades."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from decimal import ROUND_FLOOR, Decimal
from fractions import Fraction

import numpy as np
import pandas as pd

from execution.alpaca.options import AlpacaSpreads
from execution.option_orders import OptionLeg, net_price
from foundation.cents import CENT
from foundation.errors import InputError
from foundation.figures import short_usd
from foundation.notices import Notices
from option_spreads.autoscaler.now import contracts_now
from option_spreads.autoscaler.rules import ContractCount, max_risk
from option_spreads.selling.rules import Spread, SpreadRules, legs_of, minute_of
from option_spreads.selling.settings import SellingSettings
from option_spreads.selling.state import OpenSpread, collateral
from trainingdata.instants import NEW_YORK
from trainingdata.sessions import Session
from trainingdata.volatility_index import within_day

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class SpreadOffers:
    """What the entries of one account offer.

    venue: that quotes the options.
    settings: of the account.
    vix: gives the closes of the volatility index by date, read anew at every call.
    notices: told of what keeps an entry from being sized.
    """

    venue: AlpacaSpreads
    settings: SellingSettings
    vix: Callable[[], pd.Series]
    notices: Notices

    def offer(
        self,
        rules: SpreadRules,
        session: Session,
        name: str,
        now: np.datetime64,
        spreads: Iterable[OpenSpread],
    ) -> OpenSpread | None:
        """The spread that an entry offers; None, and the reason in the log, where it offers none.

        name: of the entry, which becomes the id of the trade.
        spreads: the open ones, whose collateral comes off the balance.
        """
        settings = self.settings
        closes = self._previous_closes(session)
        if closes is None:
            return None
        index = self.venue.index()
        previous_vix, previous_index = closes
        vix = float(within_day(previous_vix, index, previous_index, settings.response))
        deviation = settings.implied.deviation(index, vix, minute_of(session, now))
        spread = rules.spread(index, vix, deviation)
        if spread is None:
            log.info("%s: no entry at a volatility index of %.2f", name, vix)
            return None
        legs = legs_of(spread, settings.root, session.date.astype(object))
        prices = self._prices(legs, name)
        if prices is None:
            return None
        credit, cost = prices
        if not rules.sells_for(float(credit), spread):
            log.info("%s: no entry at a credit of %s", name, credit)
            return None
        risk = max_risk(rules.strategy, float(credit), spread.width, settings.CONDOR_RISK)
        size = contracts_now(settings.account, settings, risk, self.notices)
        if size.number == 0 or size.balance is None:
            return None
        rest = size.balance - Fraction(collateral(spreads))
        contracts = min(size.number, self._affordable(spread, rest, name))
        if contracts == 0:
            return None
        reason = (
            f"index {index:.2f}, volatility index {vix:.2f};"
            f" short strikes {rules.shape[0]:g} deviations of {deviation:.2f} away;"
            f" credit {credit}, {_size_text(size, risk)}"
        )
        log.info("%s: %s", name, reason)
        return OpenSpread(
            trade_id=name,
            strategy=rules.strategy,
            legs=tuple(leg.contract.symbol for leg in legs),
            stage="opening",
            contracts=contracts,
            credit=credit,
            entered=new_york_text(now),
            asked=cost,
            reason=reason,
            balance=Decimal(f"{float(size.balance):.2f}"),
        )

    def _affordable(self, spread: Spread, rest: Fraction, name: str) -> int:
        """Contracts of a spread that the account's balance and the venue's buying power cover.

        rest: of the balance, without what is held against open spreads, USD. The venue takes that
            off its buying power itself.
        """
        count = spread.covered(rest)
        if count == 0:
            text = "%s: the balance without the collateral of open spreads, %s, covers no contract"
            log.warning(text, name, short_usd(rest))
            return 0
        power = self.venue.buying_power()
        if power is None:
            return count
        count = min(count, spread.covered(power))
        if count:
            self.notices.end_alert("buying_power")
        else:
            text = f"{name}: nothing is sold: ${power} of buying power cover no contract"
            self.notices.alert("buying_power", text)
        return count

    def _prices(self, legs: Sequence[OptionLeg], name: str) -> tuple[Decimal, Decimal] | None:
        """Points that selling the legs brings in now, and that buying them back costs now.

        None, and a warning, where a leg has no quote.
        """
        options = [leg.contract for leg in legs]
        quotes = self.venue.quotes(options)
        credit = net_price(legs, quotes)
        closing_price = net_price([leg.closing for leg in legs], quotes)
        if credit is None or closing_price is None:
            missing = " ".join(option.symbol for option in options if option not in quotes)
            log.warning("%s: no quote of %s", name, missing)
            return None
        # Limits are in cents. Rounded up, the offer would ask for more than the market pays.
        return credit.quantize(CENT, ROUND_FLOOR), -closing_price

    def _previous_closes(self, session: Session) -> tuple[float, float] | None:
        """Closes of the volatility index and of the index before a session, points.

        None, and an alert, where one of them is not known.
        """
        before = session.before
        kind = f"volatility {session.date}"
        try:
            volatility = self.vix().get(pd.Timestamp(before))
        except InputError as error:
            self.notices.alert(kind, f"nothing is sold: {error}")
            return None
        index = self.venue.close_of(before.astype(object))
        if volatility is None or index is None:
            what = "the volatility index" if volatility is None else "the index"
            text = f"nothing is sold: the close of {what} on {before} is not known"
            self.notices.alert(kind, text)
            return None
        return float(volatility), index


def new_york_text(at: np.datetime64) -> str:
    """An instant in New York time, as the account's files write it."""
    return f"{pd.Timestamp(at, tz='UTC').tz_convert(NEW_YORK):%Y-%m-%d %H:%M}"


def _size_text(size: ContractCount, risk: float) -> str:
    kelly = "" if size.kelly is None else f" at Kelly {float(size.kelly):.2%}"
    held = "" if size.balance is None else f"balance {short_usd(size.balance)}, "
    return f"{held}${risk:,.0f} at risk a contract; {size.number} by {size.why}{kelly}"
