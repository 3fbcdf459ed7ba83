"""A limit on the pages of a response, because the SDK follows page tokens without end."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from foundation.errors import InvalidResponse
from trainingdata.feed.fields import ResponsePage, as_mapping

MAX_PAGES = 10_000  # maximum pages of a response; more bars would exceed any machine's memory


def limit_pages(client: Any) -> Any:
    """Limit the number of pages that the SDK's client for prices requests; return the client.

    client: client used by one thread at a time.

    The client's requests then raise InvalidResponse for a page that is not an object, and for more
    than 10,000 pages. They also raise it for a page token that is not a text, or is repeated.
    """
    read = client.get
    tokens: set[str] = set()  # page tokens of the current response

    def get(path: str, data: Mapping[str, Any] | None = None, **options: Any) -> Any:
        if (data or {}).get("page_token") is None:
            tokens.clear()
        page = as_mapping(read(path=path, data=data, **options))
        # For a time without bars Alpaca has written an empty token, which the SDK would follow:
        # https://github.com/dm13450/AlpacaMarkets.jl/issues/5
        token = ResponsePage.next_page_token.read(page)
        if token in tokens:
            raise InvalidResponse(f"next_page_token repeats that of an earlier page: {token!r}")
        if token is not None:
            tokens.add(token)
            if len(tokens) >= MAX_PAGES:
                raise InvalidResponse(f"it has more than {MAX_PAGES} pages")
        return {**page, "next_page_token": token}

    client.get = get
    return client
