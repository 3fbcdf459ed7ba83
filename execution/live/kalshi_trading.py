"""An account at Kalshi traded by a policy: journal, guards, manager, ticks, and the service."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from execution.account_lock import KILL_FILE, AccountJournal, journal_of_account
from execution.events import EventLog
from execution.intents import Intent, IntentBook
from execution.kalshi.action_log import ActionEntry, ActionLog
from execution.kalshi.actions import LimitOrderActionSpace
from execution.kalshi.actor import ActorService
from execution.kalshi.book_feed import BookFeed
from execution.kalshi.connection import KalshiConnection
from execution.kalshi.endpoint import KalshiKeys, KalshiSettings
from execution.kalshi.ledger import dated_rules
from execution.kalshi.manager import KalshiMultiMarketOrderManager
from execution.kalshi.network import NetworkPolicy, load_network
from execution.kalshi.observation import features_of
from execution.kalshi.policies import BinaryKelly, Nothing, Policy, RandomPolicy
from execution.kalshi.sampler import Sampler
from execution.kalshi.sight import worth
from execution.kalshi.venue_orders import order_of
from execution.live.guards import is_there
from execution.live.halts import Halts
from execution.live.kalshi_guard import KalshiGuard
from execution.live.kalshi_settings import KalshiTradingSettings
from execution.live.loop import Stop
from execution.posting import Guard
from foundation.database import Database
from foundation.errors import BrokerError, InputError
from foundation.notices import Notices
from trainingdata.instants import system_clock

log = logging.getLogger(__name__)

JOB = "kalshi"
TICKS = "kalshi ticks"  # kinds of alerts
ACCOUNT = "kalshi account"
_NAME = 16  # characters of the account's name

Show = Callable[[ActionEntry], None]


def trade(
    settings: KalshiTradingSettings,
    keys: KalshiKeys,
    stop: Stop,
    show: Show,
    clock: Callable[[], np.datetime64] = system_clock,
) -> None:
    """Trade until the steps are made, every market has settled, or it is told to stop.

    show: called with every decision.

    Raises
    ------
    InputError
        for settings that cannot be used, an account that another process trades, a kill file, and a
        venue that does not answer at the start.
    """
    venue = settings.venue()
    rules_of = dated_rules(settings.fees.on)
    space = settings.space(rules_of("", clock()))
    policy, sizes = policy_of(settings, space)
    with ExitStack() as held:
        journal = held.enter_context(_journal(settings, venue, keys))
        kill_file = journal.folder / KILL_FILE
        if is_there(kill_file):
            raise InputError(f"{kill_file} is there: nothing is traded; remove it first")
        folder = None if settings.mode == "dry" else journal.folder
        notices = held.enter_context(Notices(settings.healthcheck_url, settings.alert_url, folder))
        events = EventLog(journal.database, keys.redact, clock)
        book = IntentBook(journal.database, events)
        halts = Halts(journal.database, events)
        guard: Guard = KalshiGuard(settings.guards, halts, book, kill_file, order_of)
        if settings.mode == "dry":
            guard = _nothing_is_sent
        books = None
        if settings.stream:
            books = held.enter_context(BookFeed(venue, keys, settings.markets))
        manager = KalshiMultiMarketOrderManager(
            venue,
            keys,
            space.admission,
            rules_of,
            book=book,
            books=books,
            guard=guard,
            job=JOB,
            clock=clock,
        )
        sampler = Sampler(KalshiConnection(venue, keys, clock), settings.markets, settings.step)
        actions = ActionLog(journal.database, events, book, JOB)
        samples = sampler.read()
        if books is not None:
            books.wait_until_certain(venue.read_timeout)
        began = actions.began(worth(manager.view(settings.markets[0])))
        service = ActorService(
            _account_name(venue, keys),
            manager,
            space,
            policy(float(began)),
            actions,
            notices,
            settings.actor,
            clock=clock,
            sizes=sizes,
            show=show,
        )
        for market in settings.markets:
            span = actions.spans().get(market) or sampler.span(market, samples[market], clock())
            sampler.spans[market] = span
            service.follow(market, span)
        loop = _Loop(service, manager, sampler, notices, stop, clock, kill_file)
        try:
            asyncio.run(loop.run(settings.steps))
        except Exception as error:
            notices.alert("stopped", f"trading has stopped: {error}")
            raise


@dataclass(frozen=True, slots=True)
class _Loop:
    """Ticks at equal steps for a service that works on them beside, until there are none."""

    service: ActorService
    manager: KalshiMultiMarketOrderManager
    sampler: Sampler
    notices: Notices
    stop: Stop
    clock: Callable[[], np.datetime64]
    kill_file: Path

    async def run(self, steps: int | None) -> None:
        working = asyncio.create_task(self.service.run())
        done = 0
        try:
            while self.sampler.spans and done != steps and not working.done():
                at = self.sampler.tick_after(self.clock())
                seconds = float((at - self.clock()) / np.timedelta64(1, "s"))
                await asyncio.to_thread(self.stop.wait, max(seconds, 0.0))
                if is_there(self.kill_file):
                    self.stop.tell("the kill file is there")
                if self.stop:
                    break
                await self._offer(at)
                done += 1
        finally:
            # Whatever ends this, no thread may wait for further ticks.
            self.service.updates.end()
        await working
        dropped = self.service.updates.dropped
        log.info("%d ticks; %d dropped, not decided on: %s", done, dropped, self.service.skipped)

    async def _offer(self, at: np.datetime64) -> None:
        """Let what the markets show be worked on, and tell of an account that does not add up."""
        try:
            for update in await asyncio.to_thread(self.sampler.sample, at):
                self.service.offer(update)
            differences = await asyncio.to_thread(self.manager.differences)
        except BrokerError as error:
            self.notices.alert(TICKS, f"no ticks: {error}")
            return
        self.notices.end_alert(TICKS)
        self.notices.beat()
        if differences:
            self.notices.alert(ACCOUNT, "; ".join(differences))
        else:
            self.notices.end_alert(ACCOUNT)


def policy_of(
    settings: KalshiTradingSettings, space: LimitOrderActionSpace
) -> tuple[Callable[[float], Policy], bool]:
    """What makes the policy that settings name, and whether it is shown features of sizes.

    It is made of the USD that money in features is a multiple of.

    Raises
    ------
    InputError
        for a checkpoint that cannot be read, or was trained with other sizes.
    """
    if settings.policy == "nothing":
        return lambda _: Nothing(), True
    if settings.policy == "random":
        return lambda _: RandomPolicy(settings.seed), True
    if settings.policy == "kelly":
        return lambda began: BinaryKelly(space, began, settings.kelly_fraction), True
    network = load_network(settings.policy)
    _refuse_other_sizes(settings, network)
    return lambda _: network, network.about.features == features_of(sizes=True)


def _refuse_other_sizes(settings: KalshiTradingSettings, network: NetworkPolicy) -> None:
    about = network.about
    trained = (about.position_sizes, about.fixed_size)
    if trained != (tuple(settings.position_sizes), settings.fixed_size):
        raise InputError(
            f"{settings.policy}: trained with position_sizes={list(about.position_sizes)} and"
            f" fixed_size={about.fixed_size}; set both to that"
        )


@contextmanager
def _journal(
    settings: KalshiTradingSettings, venue: KalshiSettings, keys: KalshiKeys
) -> Iterator[AccountJournal]:
    """The account's journal, locked; in memory where nothing is sent."""
    root = Path(settings.folder)
    if settings.mode != "dry":
        with journal_of_account(_account_name(venue, keys), root) as journal:
            yield journal
        return
    database = Database()
    try:
        yield AccountJournal(database, root, None)
    finally:
        database.close()


def _account_name(venue: KalshiSettings, keys: KalshiKeys) -> str:
    """What the account is called here: the venue tells no id, so that a key stands for its account.

    Two keys of one account are two names: one process alone may trade an account.
    """
    digest = hashlib.sha256(f"{venue.address} {keys.key_id}".encode()).hexdigest()
    return f"kalshi-{venue.mode}-{digest[:_NAME]}"


def _nothing_is_sent(intent: Intent, now: np.datetime64) -> str:
    del intent, now
    return "mode=dry sends nothing"
