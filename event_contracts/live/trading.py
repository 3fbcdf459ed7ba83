"""An account at Kalshi traded by a policy: manager, service, marks, and the job that steps them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from event_contracts.live.account import KalshiAccount
from event_contracts.live.job import KalshiJob
from event_contracts.live.records import JOB, KalshiRecords, kalshi_records
from event_contracts.live.settings import KalshiTradingSettings
from event_contracts.live.size_panel import sizes_section
from event_contracts.trading.action_log import ActionEntry
from event_contracts.trading.actions import LimitOrderActionSpace
from event_contracts.trading.actor import ActorService
from event_contracts.trading.connection import KalshiConnection
from event_contracts.trading.endpoint import KalshiKeys
from event_contracts.trading.estimates import EstimateFile
from event_contracts.trading.listings import Listing, UnknownMarket
from event_contracts.trading.manager import ORDER_LIFE, KalshiMultiMarketOrderManager
from event_contracts.trading.market_fees import MarketFees
from event_contracts.trading.network import load_network
from event_contracts.trading.observation import features_of
from event_contracts.trading.policies import BinaryKelly, Nothing, Policy, RandomPolicy
from event_contracts.trading.sampler import Sampler
from event_contracts.trading.sight import worth
from execution.account_lock import is_there
from execution.live.loop import VENUE_RETRY, Loop, Stop
from execution.live.page import Bounds, StatusPage
from foundation.clock import OURS, Time
from foundation.errors import AccessRefused, BrokerError, InputError

log = logging.getLogger(__name__)

Show = Callable[[ActionEntry], None]


def trade(
    settings: KalshiTradingSettings,
    keys: KalshiKeys,
    stop: Stop,
    show: Show,
    time: Time = OURS,
) -> None:
    """Trade until the steps are made, every market has settled, or it is told to stop.

    show: called with every decision.

    Raises
    ------
    InputError
        for settings that cannot be used, an account that another process trades, a kill file, a
        venue that does not answer at the start (one that is to trade until it is stopped waits for
        it), and what the last of `halt_after` ticks met.
    """
    venue = settings.venue()
    fees = MarketFees(settings.fees.on)
    policy, sizes = policy_of(settings)
    estimates = None if settings.estimates is None else Path(settings.estimates)
    with ExitStack() as held:
        records = held.enter_context(kalshi_records(settings, venue, keys, time.now))
        bounds = Bounds(float(settings.limits.share), settings.guards)
        page = StatusPage(records.database, bounds, [sizes_section(records.book)], time)
        held.enter_context(page.kept(stop))
        connection = KalshiConnection(venue, keys, time)
        own = EstimateFile(estimates, records.notices)
        sampler = Sampler(connection, settings.markets, settings.step, own.at)

        def alive(job: str, due: np.datetime64 | None) -> None:
            del job, due
            if is_there(records.kill_file):
                stop.tell("the kill file is there")
            page.refresh()

        def begin() -> KalshiJob:
            listings = sampler.read()
            fees.learn(connection, settings.markets)
            space = settings.space_at(fees.dearest(time.now()))
            manager = _manager(settings, keys, space, fees, records, time)
            account = KalshiAccount(manager, records, settings.guards)
            began = records.actions.began(worth(manager.view(settings.markets[0])))
            service = _service(
                settings, records, manager, space, policy(space, float(began)), sizes, show
            )
            _follow(service, sampler, listings, records)
            account.mark()
            return KalshiJob(service, sampler, account, records, stop, settings.steps)

        try:
            job = _begun(begin, stop, patient=settings.steps is None)
            if job is not None:
                notices, expect = records.notices, records.next_pass.expect
                halt_after = settings.halt_after
                Loop([job], time.now, stop, notices, alive, halt_after, expect=expect).run()
                job.finish()
        except Exception as error:
            records.notices.alert("stopped", f"trading has stopped: {error}")
            raise


def _begun(begin: Callable[[], KalshiJob], stop: Stop, *, patient: bool) -> KalshiJob | None:
    """The job, once the venue is there; none where it was told to stop before.

    patient: whether a venue that does not answer is asked again.

    Raises
    ------
    BrokerError
        for keys that open no account, a market that is not listed, and a venue that does not
        answer.
    """
    while not stop:
        try:
            return begin()
        except BrokerError as error:
            if not patient or isinstance(error, AccessRefused | UnknownMarket):
                raise
            log.warning("the venue is not there yet: %s", error)
        stop.wait(VENUE_RETRY)
    return None


def _manager(
    settings: KalshiTradingSettings,
    keys: KalshiKeys,
    space: LimitOrderActionSpace,
    fees: MarketFees,
    records: KalshiRecords,
    time: Time,
) -> KalshiMultiMarketOrderManager:
    return KalshiMultiMarketOrderManager(
        settings.venue(),
        keys,
        space.admission,
        fees,
        book=records.book,
        guard=records.guard,
        job=JOB,
        life=max(settings.life * settings.step, ORDER_LIFE),
        time=time,
    )


def _service(
    settings: KalshiTradingSettings,
    records: KalshiRecords,
    manager: KalshiMultiMarketOrderManager,
    space: LimitOrderActionSpace,
    policy: Policy,
    sizes: bool,
    show: Show,
) -> ActorService:
    return ActorService(
        records.name,
        manager,
        space,
        policy,
        records.actions,
        records.notices,
        settings.actor,
        clock=records.clock,
        sizes=sizes,
        life=settings.life,
        halted=records.opens_nothing,
        show=show,
    )


def _follow(
    service: ActorService,
    sampler: Sampler,
    listings: Mapping[str, Listing],
    records: KalshiRecords,
) -> None:
    """Have every market sampled and traded, in the steps of an earlier process where it had some.

    listings: the markets as they are listed now.
    """
    spans = records.actions.spans()
    for market, listing in listings.items():
        span = spans.get(market) or sampler.span(market, listing, records.clock())
        sampler.spans[market] = span
        service.follow(market, span)


def policy_of(
    settings: KalshiTradingSettings,
) -> tuple[Callable[[LimitOrderActionSpace, float], Policy], bool]:
    """What makes the policy that settings name, and whether it is shown features of sizes.

    It is made of the actions, and of the USD that money in features is a multiple of.

    Raises
    ------
    InputError
        for a checkpoint that cannot be read, or was trained with other sizes or price styles.
    """
    if settings.policy == "nothing":
        return lambda *_: Nothing(), True
    if settings.policy == "random":
        return lambda *_: RandomPolicy(settings.seed), True
    if settings.policy == "kelly":
        return lambda space, began: BinaryKelly(space, began, settings.kelly_fraction), True
    network = load_network(settings.policy)
    if why := network.about.other_orders(settings):
        raise InputError(f"{settings.policy}: {why}")
    return lambda *_: network, network.about.features == features_of(sizes=True)
