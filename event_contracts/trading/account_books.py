"""What an account was when it was last looked at, and what was paid in or taken out since then.

The venue lists fills and settlements, and no deposits. So what its cash says beyond them is one:

    flow = cash − (cash before + fills + settlements, booked by our rules) − fees it says otherwise

Less than $1 is no flow: it is rounding, and counts as profit or loss. Where the contracts do not
add up either there is no flow at all: cash has then moved with trades that the venue does not
list, and what they came to is profit or loss. Interest, rewards and fees for a withdrawal cannot
be told from deposits and withdrawals; an order's rounding that comes back an hour after its last
fill cannot be told from profit.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from decimal import Decimal

import numpy as np

from event_contracts.trading.account_reads import News, read_cash, read_news, read_positions
from event_contracts.trading.connection import KalshiConnection
from event_contracts.trading.fees import NOTHING
from event_contracts.trading.ledger import Ledger, RulesOf, held
from event_contracts.trading.money import Account
from event_contracts.trading.standing import OVERLAP
from execution.posting import LOOK_DELAYS
from foundation.errors import BrokerError

SMALLEST_FLOW = Decimal(1)  # USD


@dataclass(frozen=True, slots=True)
class AccountBooks:
    """An account as the venue showed it.

    at: by this machine's clock, before which everything was read.
    ledger: what was there, and the fills and settlements of the last hour that are in it.
    """

    at: np.datetime64
    ledger: Ledger


@dataclass(frozen=True, slots=True)
class Reading:
    """An account that was read, beside what it was before.

    books: of it.
    fills: listed since the books before; 0 where there were none.
    flow: USD paid in less taken out since then.
    differences: what the venue does not explain, in words; a flow is none of them.
    """

    books: AccountBooks
    fills: int = 0
    flow: Decimal = NOTHING
    differences: tuple[str, ...] = ()


def read_account(
    connection: KalshiConnection,
    before: AccountBooks | None,
    rules_of: RulesOf,
    pause: Callable[[float], None],
) -> Reading:
    """The account now, and what was paid in or taken out since it was read before.

    What no fill or settlement explains is believed once it lasts: they may be listed late.

    before: its books of the last reading, also of an earlier process; none where it is the first.

    Raises
    ------
    BrokerError
        for a venue that does not answer, and an account in which something trades whenever it is
        read.
    """
    reading = None
    for seconds in (0.0, *LOOK_DELAYS):
        pause(seconds)
        at = connection.now()
        since = (at if before is None else min(before.at, at)) - OVERLAP
        news = read_news(connection, since)
        cash = read_cash(connection)
        holdings = {name: held(each) for name, each in read_positions(connection).items()}
        # What trades meanwhile is in the cash or not: nobody knows which.
        if read_news(connection, since) != news:
            continue
        reading = reading_of(at, Account(cash, holdings), news, before, rules_of)
        if not reading.flow and not reading.differences:
            break
    if reading is None:
        raise BrokerError("the account: something trades in it whenever it is read")
    return reading


def reading_of(
    at: np.datetime64,
    account: Account,
    news: News,
    before: AccountBooks | None,
    rules_of: RulesOf,
) -> Reading:
    """What an account that the venue shows comes to beside its books before.

    account: without carried rounding, which the venue does not show.
    news: what it lists since an hour before those books.
    """
    if before is None:
        opened = Ledger.opened(account, news.fills, news.settlements)
        return Reading(AccountBooks(at, opened))
    booked = before.ledger.after(news.fills, news.settlements, rules_of)
    recent = {fill.order_id for fill in news.fills}
    carried = {
        name: amount for name, amount in booked.account.carried.items() if amount and name in recent
    }
    opened = Ledger.opened(replace(account, carried=carried), news.fills, news.settlements)
    books = AccountBooks(at, opened)
    positions = {name: each.yes - each.no for name, each in account.holdings.items()}
    fills = sum(fill.fill_id not in before.ledger.booked for fill in news.fills)
    if booked.position_differences(positions):
        differences = booked.differences(account.cash, positions)
        return Reading(books, fills, differences=differences)
    charged = sum((amount for _, amount in booked.fees), NOTHING)
    flow = account.cash - booked.account.cash - charged
    return Reading(books, fills, flow if abs(flow) >= SMALLEST_FLOW else NOTHING)
