"""Event contracts as a job of the loop: at equal steps their ticks are read and decided on, and the
account is marked.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from event_contracts.live.account import KalshiAccount
from event_contracts.live.records import JOB, KalshiRecords
from event_contracts.trading.actor import ActorService
from event_contracts.trading.manager import KalshiMultiMarketOrderManager
from event_contracts.trading.sampler import Sampler
from execution.live.loop import Stop
from foundation.errors import BrokerError


@dataclass(slots=True)
class KalshiJob:
    """Ticks of an account's markets, until there are none.

    service: decides and sends.
    sampler: reads the markets.
    manager: of the account's orders.
    account: marks what it is worth.
    records: in which every tick is a pass.
    stop: after which nothing more is decided.
    steps: ticks to make; none goes on until every market has settled.
    made: ticks so far.
    """

    service: ActorService
    sampler: Sampler
    manager: KalshiMultiMarketOrderManager
    account: KalshiAccount
    records: KalshiRecords
    stop: Stop
    steps: int | None
    made: int = field(default=0, init=False)

    @property
    def name(self) -> str:
        """What the journal calls it."""
        return JOB

    def due(self, now: np.datetime64) -> np.datetime64 | None:
        """The next tick; none where all are made, or every market has settled."""
        if self.made == self.steps or not self.sampler.spans:
            return None
        return self.sampler.tick_after(now)

    def step(self) -> None:
        """Decide on what the markets show, look at the account and mark it.

        Raises
        ------
        BrokerError
            for a venue that does not answer, after the failure was written down.
        """
        self.made += 1
        now = self.records.account.now()
        number = self.records.journal.passes.begin(now)
        try:
            updates = self.sampler.sample(self.sampler.tick_after(now) - self.sampler.interval)
            for update in updates:
                if not self.stop:
                    self.service.work(update)
            reading = self.account.mark()
        except BrokerError as error:
            self.records.journal.passes.end(number, self.records.account.now(), failed=str(error))
            raise
        shown = f"ticks of {', '.join(update.market for update in updates)}" if updates else ""
        idle = "" if updates else "no market shows anything"
        self.records.journal.passes.end(
            number, self.records.account.now(), decision=shown, fills=reading.fills, idle=idle
        )

    def finish(self, *, flatten: bool) -> list[str]:
        """Take the orders that work out of their books.

        Returns what was to be closed and is held all the same: nothing is closed here.

        Raises
        ------
        BrokerError
            for a venue that does not answer; what works there ends by itself.
        """
        now = self.records.account.now()
        for market in self.sampler.spans:
            self.manager.withdraw(market, now)
        held = self.manager.reading().books.positions if flatten else {}
        return [f"{count:f} {market}" for market, count in held.items()]
