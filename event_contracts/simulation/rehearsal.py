"""A practice venue's first tick, gone through before it takes a request."""

from __future__ import annotations

import numpy as np

from event_contracts.simulation.exchange import Listing
from event_contracts.simulation.sessions import tape_of
from event_contracts.simulation.synthetic import SyntheticMarket, synthetic_session
from event_contracts.simulation.tickets import OrderRequest
from event_contracts.simulation.venue import KalshiVenue
from event_contracts.simulation.venue_settings import KalshiVenueSettings


def rehearse() -> None:
    """Compile what a venue needs, once: a client's first request would wait for that."""
    session = synthetic_session(0, SyntheticMarket(steps=3))
    venue = KalshiVenue(
        KalshiVenueSettings(), [Listing("SIM", tape_of(session))], np.datetime64(0, "ns")
    )
    body = {
        "ticker": "SIM",
        "side": "bid",
        "price": "0.5000",
        "count": "1",
        "time_in_force": "good_till_canceled",
        "self_trade_prevention_type": "taker_at_cross",
    }
    venue.submit(OrderRequest.of(body))
    venue.advance()
