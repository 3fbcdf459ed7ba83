"""What became of a request that had no answer, in words instead of a library's own."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from urllib.parse import urlsplit

from requests.exceptions import RequestException, SSLError
from urllib3.exceptions import NameResolutionError, ProtocolError

_TIME_LIMIT = re.compile(r"(?:timeout=|no whole answer in )([\d.]+)")


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
