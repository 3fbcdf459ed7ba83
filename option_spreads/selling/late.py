"""What is said of a spread that is open when the broker takes no more orders for its options."""

from __future__ import annotations

from foundation.notices import Notices
from option_spreads.selling.offers import SellerTerms, new_york_text
from option_spreads.selling.state import OpenSpread
from trainingdata.sessions import Session


def tell_of_late(
    spread: OpenSpread, terms: SellerTerms, session: Session, notices: Notices, *, leaving: bool
) -> None:
    """Say once of a spread that is open, and should not be, that no order can end it.

    session: the one that it expires with.
    leaving: whether everything is to be bought back.
    """
    # What settles in cash may be held to the close.
    leaves = terms.delivers or terms.rules_of(spread.strategy).leave_at is not None
    if leaves or leaving or spread.why:
        until = new_york_text(terms.ordered_until(session))
        notices.alert(
            f"late {spread.trade_id}",
            f"{spread.trade_id} is open with {spread.remaining} contracts, and since {until} New"
            " York time the broker takes no orders for its options, which expire today, and may"
            " close them itself: nothing is ordered any more; look at the account there",
        )
