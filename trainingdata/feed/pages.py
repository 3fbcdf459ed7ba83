"""Answers in pages: the SDK reads on until there is no token of a next page, and says nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from foundation.errors import InvalidResponse
from trainingdata.feed.fields import Page, as_mapping

MAX_PAGES = 10_000  # that an answer may have; so many bars fit into no machine's memory


def limit_pages(client: Any) -> Any:
    """The SDK's client for prices, whose every answer has an end.

    Its requests raise `InvalidResponse` for a page that has no fields, for a token of a next page
    that is no text or an earlier page's, and for more than 10,000 pages.

    client: used by one thread at a time.
    """
    read = client.get
    tokens: set[str] = set()  # of the pages of an answer

    def get(path: str, data: Mapping[str, Any] | None = None, **options: Any) -> Any:
        if (data or {}).get("page_token") is None:
            tokens.clear()
        page = as_mapping(read(path=path, data=data, **options))
        # For a time without bars Alpaca has written an empty token, which the SDK takes for one:
        # https://github.com/dm13450/AlpacaMarkets.jl/issues/5
        token = Page.next_page_token.read(page)
        if token in tokens:
            raise InvalidResponse(f"next_page_token is an earlier page's: {token!r}")
        if token is not None:
            tokens.add(token)
            if len(tokens) >= MAX_PAGES:
                raise InvalidResponse(f"it has no end after {MAX_PAGES} pages")
        return {**page, "next_page_token": token}

    client.get = get
    return client
