"""What became of a request that failed, in words instead of a library's own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

from requests.exceptions import JSONDecodeError, RequestException

from foundation.errors import AnswerRefused, BrokerError, InputError, SenselessAnswer, in_one_line


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
        return in_one_line(redact(text.splitlines()[0] if text else type(error).__name__))

    try:
        yield
    except JSONDecodeError as error:
        raise failed(f"the answer makes no sense: no JSON: {first_line(error)}") from None
    except RequestException as error:
        # Redacted before it is cut: of a cut key a part would stay.
        raise failed(f"no answer: {in_one_line(redact(connection_words(error)))}") from None
    except RecursionError:
        raise failed("the answer makes no sense: it is nested too deep") from None
    except SenselessAnswer as error:
        raise failed(str(SenselessAnswer(redact(error.why))), AnswerRefused) from None
    except (ValueError, KeyError, TypeError, AttributeError, ArithmeticError) as error:
        if isinstance(error, InputError):
            raise
        raise failed(f"the answer makes no sense: {first_line(error)}") from None


def connection_words(error: RequestException) -> str:
    """What became of a request that had no answer: its host, and the first cause of the failure."""
    host = urlsplit(getattr(error.request, "url", None) or "").netloc or "the address"
    cause: BaseException = error
    # The libraries put what a failure comes from into its arguments.
    while inner := _inner(cause):
        cause = inner
    return f"{host.rpartition('@')[2]}: {str(cause) or type(cause).__name__}"


def _inner(error: BaseException) -> BaseException | None:
    causes = (getattr(error, "reason", None), *error.args, error.__cause__)
    return next((each for each in causes if isinstance(each, BaseException)), None)
