"""What a spread that has expired settles at, and the account's files in which closed ones are."""

from __future__ import annotations

import logging
from decimal import Decimal
from pathlib import Path

import numpy as np

from foundation.notices import Notices
from option_spreads.autoscaler.account import BookedOtherwise, UnknownState
from option_spreads.autoscaler.now import report_conflicts
from option_spreads.selling.offers import new_york_text
from option_spreads.selling.settings import MODE, SellingSettings
from option_spreads.selling.state import FILE, OpenSpread
from trainingdata.sessions import Session

log = logging.getLogger(__name__)

# From the close until somebody is told that the close is not known. A feed of the whole market may
# give it to those who do not pay for it a quarter of an hour late.
SETTLING_PATIENCE = np.timedelta64(30, "m")


class SpreadBooks:
    """The files of one account.

    notices: told of whatever keeps a spread from being booked.
    """

    def __init__(self, settings: SellingSettings, notices: Notices) -> None:
        self._settings = settings
        self._notices = notices
        self._account = settings.account

    @property
    def folder(self) -> Path:
        """Where they are."""
        return self._account.folder

    def settlement(
        self,
        spread: OpenSpread,
        index: float | None,
        session: Session | None,
        now: np.datetime64,
    ) -> Decimal | None:
        """Points that a spread settles at; None, and somebody is told, where that is not known.

        index: at the close of its last session, points; None where it is not known yet.
        session: the last one; None where the exchange was closed on that day.
        """
        kind = f"settling {spread.trade_id}"
        by_hand = (
            "what that brings is not known here. Put the account in order, add the trade to"
            f" trades.csv, and take it out of {self.folder / FILE}; nothing is sold until then"
        )
        if spread.gone:
            self._notices.alert(
                kind,
                f"{spread.trade_id} has expired, and before that its options were held otherwise,"
                f" by no order from here: {by_hand}",
            )
            return None
        if index is None:
            text = f"{spread.trade_id} has expired, and the close it settles at is not known yet"
            log.warning("%s", text)
            if session is None or now - session.closes >= SETTLING_PATIENCE:
                self._notices.alert(kind, f"{text}; nothing is sold until it is booked")
            return None
        if self._settings.delivers_shares and spread.spread.delivers_at(index):
            self._notices.alert(
                kind,
                f"{spread.trade_id} has expired with the stock at {index:g}, where shares change"
                f" hands: {by_hand}",
            )
            return None
        return Decimal(str(round(spread.spread.settles_at(index), 2)))

    def book(self, spread: OpenSpread, at: np.datetime64, settled_at: Decimal | None) -> bool:
        """Whether a closed spread is in the files.

        at: when it was closed.
        settled_at: points a spread that what remained of it settled at; None where nothing did.
        """
        trade = spread.closed_trade(self._settings.costs, new_york_text(at), settled_at)
        try:
            account = self._account.record(trade)
            log.info(
                "%s closed: %s, $%s; balance $%s",
                trade.trade_id,
                trade.exit_reason,
                trade.total,
                float(account.balance),
            )
            self._notices.end_alert("unknown_state")
            report_conflicts(account, self._notices)
        except UnknownState as error:
            self._notices.alert(
                "unknown_state",
                f"{MODE}: {trade.trade_id} closed with ${trade.total}: {error}",
            )
            return False
        except BookedOtherwise as error:
            self._notices.alert(f"booked {trade.trade_id}", str(error))
        self._notices.end_alert(f"settling {trade.trade_id}")
        return True
