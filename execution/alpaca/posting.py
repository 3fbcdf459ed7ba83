"""One POST of an order, and what its answer says."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from execution.alpaca.connection import Answer
from execution.alpaca.order_reader import BUSY, OTHER_STATE
from execution.alpaca.order_requests import order_request
from execution.journal.intents import Intent
from execution.posting import NoAnswer, OrderWithheld, too_late
from foundation.errors import OrderRejected, SenselessAnswer, in_one_line
from trainingdata.feed.endpoint import Keys

POSTS = 5  # tries of an order that the venue answers with 429, which says that it did nothing
NOT_UNDERSTOOD = (408, 425)  # statuses below 500 that do not say what became of a request


def post_order(
    client: Any,
    keys: Keys,
    intent: Intent,
    patience: float,
    pause: Callable[[float], None],
    now: Callable[[], np.datetime64],
    checked: Callable[[str, Answer], Answer],
) -> Answer:
    """The venue's answer to a POST of an intent.

    client: the SDK's.
    patience: seconds that it waits while the venue is busy.
    pause: waits for so many seconds.
    now: the venue's time.
    checked: the answer about the order with an id of ours, where it can be believed.

    Raises
    ------
    OrderRejected
        for an order that it does not take; `OrderWithheld` for one that it did nothing with.
    NoAnswer
        for an answer that does not say whether it takes it.
    """
    from alpaca.common.exceptions import APIError
    from requests.exceptions import RequestException

    from foundation.transport import note_pause, seconds_to_wait

    name = intent.client_order_id
    waited = 0.0
    for _ in range(POSTS):
        try:
            return checked(name, client.post("/orders", order_request(intent.order)))
        except APIError as error:
            status = error.status_code
            words = keys.redact(" ".join(str(error).split()))[:300]
            # 429 alone says that the venue has done nothing, so the same order may be sent.
            if status == BUSY:
                headers = {} if error.response is None else error.response.headers
                seconds = seconds_to_wait(headers)
                seconds = 1.0 if seconds is None else seconds
                waited += seconds
                # Whatever else is open is looked at by nobody meanwhile.
                if waited > patience:
                    break
                note_pause(seconds, f"{name}: the venue is busy and asks for it")
                pause(seconds)
                if not intent.wanted(now()):
                    raise OrderWithheld(f"{name}: not sent: {too_late(intent)}") from None
                continue
            # A refusal of the id says that the venue has an order of this id, which may be this
            # very order, sent before a crash. It is no refusal of the order.
            known_id = status == OTHER_STATE and "client_order_id" in words
            if status is None or status >= 500 or known_id or status in NOT_UNDERSTOOD:
                raise NoAnswer(f"status {status}") from None
            raise OrderRejected(f"{name}: rejected ({status}): {words}") from None
        except SenselessAnswer as error:
            raise NoAnswer(in_one_line(keys.redact(error.why))) from None
        except (RequestException, ValueError, KeyError, TypeError, RecursionError) as error:
            raise NoAnswer(type(error).__name__) from None
    raise OrderWithheld(f"{name}: not sent: the venue has no room for requests (429)")
