"""Ticks of event contracts at equal steps: sampled, offered, and the account marked after each."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass

import numpy as np

from event_contracts.live.account import KalshiAccount
from event_contracts.live.records import JOB, KalshiRecords
from event_contracts.trading.actor import ActorService
from event_contracts.trading.sampler import Sampler
from execution.account_lock import is_there
from execution.live.loop import LONGEST_WAIT, SECOND, Stop
from execution.live.page import StatusPage
from foundation.errors import BrokerError

log = logging.getLogger(__name__)

TICKS = "kalshi ticks"  # a kind of alert


@dataclass(frozen=True, slots=True)
class KalshiLoop:
    """Ticks for a service that works on them beside, until there are none.

    service: decides and sends.
    sampler: reads the markets.
    account: marks what it is worth.
    records: in which every round is a pass; their kill file ends the loop once it is there.
    page: of the account, written anew before a tick is waited for.
    halt_after: rounds in a row that fail, after which no more are made.
    """

    service: ActorService
    sampler: Sampler
    account: KalshiAccount
    records: KalshiRecords
    page: StatusPage
    stop: Stop
    halt_after: int

    async def run(self, steps: int | None) -> None:
        """Make so many rounds, or go on until every market has settled or it is told to stop.

        Raises
        ------
        BrokerError
            what the last round met, where as many in a row failed as `halt_after` says.
        """
        working = asyncio.create_task(self.service.run())
        done = failures = 0
        try:
            while self.sampler.spans and done != steps and not working.done():
                at = await asyncio.to_thread(self._next_tick)
                if at is None:
                    break
                try:
                    await asyncio.to_thread(self._round, at)
                    failures = 0
                except BrokerError as error:
                    failures += 1
                    ticks = "a tick" if failures == 1 else f"{failures} ticks in a row"
                    self.records.notices.alert(TICKS, f"{ticks} failed: {error}")
                    if failures >= self.halt_after:
                        raise
                done += 1
        finally:
            # Whatever ends this, no thread may wait for further ticks, and what is sent is noted.
            self.service.updates.end()
            await working
        if not self.stop:
            self.records.next_pass.expect_none()
        why = self.stop.why or ("its ticks are made" if self.sampler.spans else "all have settled")
        self.records.events.append("stopped", JOB, {"why": why})
        dropped = self.service.updates.dropped
        log.info("%d ticks; %d dropped, not decided on: %s", done, dropped, self.service.skipped)

    def _next_tick(self) -> np.datetime64 | None:
        """The next tick, once it has come; none where the loop was told to stop before."""
        now = self.records.clock()
        at = self.sampler.tick_after(now)
        self.records.next_pass.expect(JOB, at, now)
        while True:
            if is_there(self.records.kill_file):
                self.stop.tell("the kill file is there")
            if self.stop:
                return None
            # A clock that is put back has another next tick.
            at = min(at, self.sampler.tick_after(self.records.clock()))
            seconds = float((at - self.records.clock()) / SECOND)
            if seconds <= 0:
                return at
            self.page.refresh()
            self.stop.wait(min(seconds, LONGEST_WAIT))

    def _round(self, at: np.datetime64) -> None:
        """Offer what the markets show, look at the account and mark it.

        Raises
        ------
        BrokerError
            for a venue that does not answer, after the failure was written down.
        """
        number = self.records.journal.begin_cycle(self.records.clock())
        try:
            updates = self.sampler.sample(at)
            for update in updates:
                self.service.offer(update)
            reading = self.account.mark()
        except BrokerError as error:
            self.records.journal.end_cycle(number, self.records.clock(), failed=str(error))
            raise
        shown = f"ticks of {', '.join(update.market for update in updates)}" if updates else ""
        idle = "" if updates else "no market shows anything"
        self.records.journal.end_cycle(
            number, self.records.clock(), decision=shown, fills=reading.fills, idle=idle
        )
        self.records.notices.end_alert(TICKS)
        self.records.notices.beat()
