"""What became of a request that failed, in words instead of a library's own."""

from __future__ import annotations

import re
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

from requests.exceptions import JSONDecodeError, RequestException, SSLError
from urllib3.exceptions import NameResolutionError, ProtocolError

from foundation.errors import AnswerRefused, BrokerError, InputError, SenselessAnswer, in_one_line

_TIME_LIMIT = re.compile(r"(?:timeout=|no whole answer in )([\d.]+)")


@contextmanager
def failures_in_words(request: str, redact: Callable[[str], str]) -> Iterator[None]:
    """Turn whatever goes wrong with a request into one line without secrets.

    What a venue answered with a status is its adapter's to say, within.

    request: whom it asks, and for what.
    redact: takes secrets out of a text.

    Raises BrokerError saying what was requested of whom, and what came back; `AnswerRefused` for a
    `SenselessAnswer`.
    """

    def failed(what: str, kind: type[BrokerError] = BrokerError) -> BrokerError:
        return kind(f"{redact(request)}: {what}")

    def first_line(error: Exception) -> str:
        text = str(error).strip()
        # Redacted before it is cut: of a cut key a part would stay.
        return in_one_line(redact(text.splitlines()[0] if text else type(error).__name__))

    try:
        yield
    except JSONDecodeError as error:
        raise failed(f"the answer makes no sense: no JSON: {first_line(error)}") from None
    except RequestException as error:
        words = redact(connection_words(error)) or first_line(error)
        raise failed(f"no answer: {words}") from None
    except RecursionError:
        raise failed("the answer makes no sense: it is nested too deep") from None
    except SenselessAnswer as error:
        raise failed(str(SenselessAnswer(redact(error.why))), AnswerRefused) from None
    except (ValueError, KeyError, TypeError, AttributeError, ArithmeticError) as error:
        if isinstance(error, InputError):
            raise
        raise failed(f"the answer makes no sense: {first_line(error)}") from None


def connection_words(error: RequestException) -> str:
    """What became of a request that had no answer, in words; empty where none fit."""
    text = str(error)
    parts = urlsplit(getattr(error.request, "url", None) or "")
    port = parts.port or {"https": 443}.get(parts.scheme, 80)
    where = f"{parts.hostname}:{port}" if parts.hostname else "the address"
    causes = list(_causes(error))
    if any(isinstance(cause, ConnectionRefusedError) for cause in causes):
        return f"{where} refused the connection"
    if any(isinstance(cause, socket.gaierror | NameResolutionError) for cause in causes):
        return f"{parts.hostname or 'the address'} could not be found"
    if isinstance(error, SSLError):
        return f"the certificate of {where} is not trusted"
    if limit := _TIME_LIMIT.search(text):
        return f"{where} did not answer in {float(limit[1]):g} s"
    if any(isinstance(cause, ConnectionResetError | ProtocolError) for cause in causes):
        return f"{where} closed the connection"
    return ""


def _causes(error: BaseException) -> Iterator[BaseException]:
    """An error, what it was raised from, and what the libraries have put into its arguments."""
    seen: list[BaseException] = []
    waiting: list[object] = [error]
    while waiting:
        each = waiting.pop()
        if isinstance(each, BaseException) and not any(each is other for other in seen):
            seen.append(each)
            yield each
            waiting += [*each.args, each.__cause__, each.__context__]
            waiting.append(getattr(each, "reason", None))
