"""A practice server's first instants, gone through before it takes a request.

Whatever it needs is compiled then, which takes a minute after an installation: a client's first
request would wait for that longer than it waits for any.
"""

from __future__ import annotations

from contextlib import suppress

from marketsimulator.settings import VenueSettings
from marketsimulator.venue.stocks import Venue
from marketsimulator.venue.tickets import Refused
from trainingdata.bars import Bars
from trainingdata.instruments import venue_spelling

INSTANTS = 9  # a session with its end


def rehearse(settings: VenueSettings, bars: Bars, first: int) -> None:
    """Trade a little on a venue of its own, and throw it away."""
    venue = Venue(settings, bars, first)
    for number, symbol in enumerate(bars.symbols):
        request = {
            "client_order_id": f"rehearsal-{number}",
            "symbol": venue_spelling(symbol),
            "side": "buy",
            "qty": "1",
            "type": "market",
            "time_in_force": "gtc",
        }
        # What the venue would refuse compiles what refuses it.
        with suppress(Refused):
            venue.submit(request)
    venue.advance(first + INSTANTS)
