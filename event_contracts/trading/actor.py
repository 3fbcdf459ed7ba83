"""Trades markets of event contracts with a policy, one update at a time, from tick to order.

Withdraw, build, mask, select, execute, record: every tick, decided on or not, begins with no order
of ours known to be open in its market. What the policy
is shown is what the environment shows, an order is written down with its decision before it is
sent, and nothing is decided on twice.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from decimal import Decimal

import numpy as np

from event_contracts.trading.action_log import ActionEntry, ActionLog, order_name
from event_contracts.trading.actions import Execution, LimitOrderActions, LimitOrderActionSpace
from event_contracts.trading.breaker import Breaker, BreakerSettings
from event_contracts.trading.orders import MarketView, Quote
from event_contracts.trading.policies import Policy
from event_contracts.trading.recorder import DecisionRecorder, TradingManager
from event_contracts.trading.records import DOLLAR, WHOLE
from event_contracts.trading.sight import MarketMemory, Seen, worth
from event_contracts.trading.updates import MarketSpan, MarketUpdate, UpdateQueue
from foundation.errors import BrokerError, InputError, OrderRejected, OutcomeUnknown, refuse_outside
from foundation.notices import Notices

log = logging.getLogger(__name__)

UNKNOWN_FATE = "an order of unknown fate keeps this market"


@dataclass(frozen=True, slots=True)
class ActorSettings:
    """How the service works.

    waiting: markets whose updates may wait at once, 1 … 100,000.
    decision_seconds: after a tick, for which it may be decided on, 1 … 3600.
    breaker: how often a market is decided on, and when it is left alone.
    """

    waiting: int = 256
    decision_seconds: float = 60.0
    breaker: BreakerSettings = field(default_factory=BreakerSettings)

    def __post_init__(self) -> None:
        refuse_outside(self, "actor", waiting=(1, 100_000), decision_seconds=(1, 3600))


class ActorService:
    """A policy on live, recorded or simulated markets.

    `offer` takes updates from any thread, `run` works on them, one after the other, until the queue
    has ended. Killed anywhere and begun again over the same journal it goes on: what was planned
    and not sent is withheld, and a market with an order of unknown fate is kept from anything new.

    updates: that wait.
    skipped: updates that were taken and not decided on, by reason: `old`, `settling`, `late`,
        `throttled`, `failed`.

    Parameters
    ----------
    account
        of which order ids are made.
    manager
        sends the orders.
    space
        sizes, limits and price styles; the ones that the policy was trained with.
    policy
        chooses.
    actions
        where it is written down.
    notices
        told of what needs a person.
    clock
        UTC; the simulation's, where there is one.
    sizes
        whether the policy is shown features of sizes.
    show
        called with every decision, once it was carried out.
    """

    def __init__(
        self,
        account: str,
        manager: TradingManager,
        space: LimitOrderActionSpace,
        policy: Policy,
        actions: ActionLog,
        notices: Notices,
        settings: ActorSettings | None = None,
        *,
        clock: Callable[[], np.datetime64],
        sizes: bool = True,
        show: Callable[[ActionEntry], None] | None = None,
    ) -> None:
        self._account = account
        self._manager = manager
        self._space = space
        self._policy = policy
        self._actions = actions
        self._notices = notices
        self._settings = settings or ActorSettings()
        self._clock = clock
        self._sizes = sizes
        self._show = show
        self._memories: dict[str, MarketMemory] = {}
        self._breakers: dict[str, Breaker] = {}
        self._began: int | None = None
        self.updates = UpdateQueue(self._settings.waiting)
        self.skipped: dict[str, int] = {}
        actions.withhold_planned()

    def follow(self, market: str, span: MarketSpan) -> None:
        """Trade a market from now on; what the journal knows of it is remembered.

        span: the steps in which it is shown; those of an earlier process hold.

        Raises
        ------
        BrokerError
            for a venue that does not answer.
        """
        began = self._began_with(market)
        memory = MarketMemory(
            self._actions.span(market, span), self._space, began, sizes=self._sizes
        )
        for update in self._actions.ticks(market):
            memory.show(update.at, update.tick)
        for entry in self._actions.entries(market):
            memory.note(memory.span.row(entry.at), entry.sent)
        self._memories[market] = memory
        self._breakers[market] = Breaker(self._settings.breaker)

    def offer(self, update: MarketUpdate) -> None:
        """Let an update wait to be worked on; never blocks.

        Raises
        ------
        InputError
            for a market that is not followed.
        """
        if update.market not in self._memories:
            raise InputError(f"{update.market}: this market is not followed")
        self.updates.put(update)

    async def run(self) -> None:
        """Work on updates until the queue has ended.

        Raises
        ------
        DatabaseFailed
            for a journal that cannot be used: nothing is sent without it.
        """
        while not self.updates.has_ended:
            await self.work(await asyncio.to_thread(self.updates.take, None))

    async def work(self, updates: tuple[MarketUpdate, ...]) -> ActionEntry | None:
        """Decide on the last of a market's ticks, and send what follows; the decision, if any."""
        if not updates:
            return None
        latest = updates[-1]
        memory = self._memories[latest.market]
        breaker = self._breakers[latest.market]
        newer = [update for update in updates if memory.is_newer(update.at)]
        # A list, for the last one says whether there is anything to decide on.
        open_now = [memory.show(update.at, update.tick) for update in newer]
        try:
            if newer and not _rests(breaker, latest.at):
                await self._withdraw(latest.market)
            if why := self._not_now(latest, newer, open_now, breaker):
                self.skipped[why] = self.skipped.get(why, 0) + 1
                self._actions.show(newer)
                return None
            breaker.decide(latest.at)
            entry = await self._decide(memory, newer)
        except BrokerError as error:
            self._actions.show(newer)
            self._fail(latest, str(error))
            return None
        if self._show is not None:
            self._show(entry)
        return entry

    def _not_now(
        self,
        latest: MarketUpdate,
        newer: list[MarketUpdate],
        open_now: list[bool],
        breaker: Breaker,
    ) -> str:
        """Why an update is not decided on, in a word; empty where it is."""
        if not newer or newer[-1] is not latest:
            return "old"
        if not open_now[-1]:
            return "settling"
        age = self._clock() - latest.at
        if age / np.timedelta64(1, "s") > self._settings.decision_seconds:
            return "late"
        if why := breaker.refusal(latest.at):
            log.debug("%s: %s", latest.market, why)
            return "failed" if _rests(breaker, latest.at) else "throttled"
        return ""

    async def _withdraw(self, market: str) -> None:
        """Take orders of ours out of the book.

        Raises
        ------
        BrokerError
            for a venue that does not answer, or an order that it does not end.
        """
        for each in await asyncio.to_thread(self._manager.withdraw, market):
            log.info("%s: order %s of the tick before is taken out", market, each.client_order_id)

    async def _decide(self, memory: MarketMemory, updates: list[MarketUpdate]) -> ActionEntry:
        """Build, mask, select, execute and record one update.

        Raises
        ------
        BrokerError
            for a venue that does not answer.
        """
        latest = updates[-1]
        unknown = await asyncio.to_thread(self._manager.undetermined, latest.market)
        view = await asyncio.to_thread(self._manager.view, latest.market)
        if unknown:
            self._notices.alert(_fate(latest.market), f"{latest.market}: {UNKNOWN_FATE}")
            reason = f"{UNKNOWN_FATE}: {unknown[0].client_order_id}"
            entry = self._entry(latest, view, None, 0, reason)
            self._actions.write(updates, entry)
            return entry
        self._notices.end_alert(_fate(latest.market))
        # An order stands at the price that the policy saw, whatever the venue quotes by now.
        view = replace(view, quote=_quote(latest, view.quote.tick))
        seen = memory.seen(view)
        chosen = int(self._policy.actions(seen.features[None], seen.allowed[None])[0])
        # What is masked does what HOLD does, as in the environment.
        action = chosen if seen.allowed[chosen] else LimitOrderActions.HOLD
        held = f"{self._policy.name} chose {chosen}, which is masked" if action != chosen else ""
        draft = self._entry(latest, view, seen, action, held)
        desk = DecisionRecorder(
            self._manager,
            self._actions,
            draft,
            view,
            updates,
            sent_at=self._clock(),
        )
        name = order_name(self._account, latest.market, latest.at, action)
        entry = await self._execute(desk, action, latest, name)
        memory.note(memory.row, entry.sent)
        return entry

    async def _execute(
        self, desk: DecisionRecorder, action: int, latest: MarketUpdate, name: str
    ) -> ActionEntry:
        """Send the order of an action, and write down what the venue said."""
        breaker = self._breakers[latest.market]
        try:
            done = await self._space.execute_action(action, desk, latest.market, name)
        except (OrderRejected, OutcomeUnknown) as error:
            entry = desk.entry
            if entry is None:
                raise
            unknown = isinstance(error, OutcomeUnknown)
            said = f"{'unknown' if unknown else 'rejected'}: {error}"
            self._actions.answer(latest.market, latest.at, said)
            if not self._was_withheld(name):
                self._fail(latest, str(error))
            return replace(entry, answer=said)
        breaker.succeed()
        self._notices.end_alert(_kind(latest.market))
        if desk.entry is None:
            return desk.hold(done.reason)
        said = _taken(done)
        self._actions.answer(latest.market, latest.at, said)
        return replace(desk.entry, answer=said)

    def _was_withheld(self, name: str) -> bool:
        """Whether an order was kept back by a guard: that is no failure of its market."""
        intent = self._actions.book.get(name)
        return intent is not None and intent.state == "withheld"

    def _fail(self, latest: MarketUpdate, why: str) -> None:
        log.warning("%s: %s", latest.market, why)
        breaker = self._breakers[latest.market]
        if breaker.fail(latest.at):
            self._notices.alert(
                _kind(latest.market),
                f"{latest.market} is left alone for {self._settings.breaker.rest:g} seconds after"
                f" {breaker.failed} failures: {why}",
            )

    def _began_with(self, market: str) -> int:
        """Millionths of a USD that the account was worth when the journal began."""
        if self._began is None:
            now = worth(self._manager.view(market))
            self._began = int(self._actions.began(now) * DOLLAR)
        return self._began

    def _entry(
        self, latest: MarketUpdate, view: MarketView, seen: Seen | None, action: int, reason: str
    ) -> ActionEntry:
        """A decision that sends nothing."""
        return ActionEntry(
            market=latest.market,
            at=latest.at,
            policy=self._policy.name,
            action=action,
            intent=self._space.process_action(action)[0],
            size=0,
            price=None,
            reason=reason,
            digest=seen.digest if seen else "",
            allowed=seen.bits if seen else 0,
            cash=view.cash,
            worth=worth(view),
        )


def _rests(breaker: Breaker, at: np.datetime64) -> bool:
    """Whether a market is left alone after failures."""
    return bool(breaker.failed and breaker.refusal(at))


def _taken(done: Execution) -> str:
    receipt = done.receipt
    assert receipt is not None
    return f"taken {receipt.order_id}: {receipt.filled} filled, {receipt.remaining} rest"


def _kind(market: str) -> str:
    return f"kalshi {market}"


def _fate(market: str) -> str:
    return f"kalshi fate {market}"


def _quote(update: MarketUpdate, tick: Decimal) -> Quote:
    """What an update shows; tick: USD between the market's prices."""
    bid, ask = (Decimal(int(update.tick[side])) / WHOLE for side in ("bid", "ask"))
    return Quote(bid, ask, tick)
