"""The dashboard: a page of this machine that reads an account's journal and changes nothing.

    python -m execution.live dashboard [--port N] [--spreads FOLDER] [key=value …]

It shows how the loop is and what stops it, what the account is worth and holds, every order with
its reason, and what was decided last; while the loop runs, and while it is down.
"""

from __future__ import annotations

import base64
import hashlib
import logging
import re
import socketserver
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np

from execution.live.accounts import PORT, holds_contracts
from execution.live.dashboard_lists import (
    cycles_view,
    decision_view,
    events_view,
    notices_view,
    orders_view,
)
from execution.live.dashboard_page import dashboard_page
from execution.live.dashboard_reading import JournalReader
from execution.live.dashboard_views import (
    Section,
    View,
    Watched,
    WatchedSettings,
    equity_view,
    leverage_view,
    positions_view,
    state_view,
)
from execution.live.dashboard_words import both_clocks
from execution.live.settings import LiveSettings
from foundation.command import printing
from foundation.compose import composed_config
from foundation.database import DatabaseFailed
from foundation.errors import InputError
from foundation.registry import registered, registered_module
from trainingdata.instants import system_clock

log = logging.getLogger(__name__)

LOOPBACK = "127.0.0.1"
LAST_PORT = 65_535
SECONDS = 30  # between two readings of a page that is open
PATIENCE = 10.0  # seconds for a request to arrive
HOSTS = (LOOPBACK, "localhost")
UNREAD = "The journal cannot be read"

_VIEWS: Mapping[str, Callable[[JournalReader, Watched], View | None]] = {
    "state": state_view,
    "equity": equity_view,
    "leverage": leverage_view,
    "positions": positions_view,
    "orders": orders_view,
    "decision": decision_view,
    "cycles": cycles_view,
    "notices": notices_view,
    "events": events_view,
}


@dataclass(frozen=True, slots=True)
class Part:
    """A section of the page.

    view: what it shows; none where there is nothing yet.
    trouble: why it cannot be shown; empty where it can.
    """

    view: View | None = None
    trouble: str = ""


@dataclass(frozen=True, slots=True)
class Dashboard:
    """An account that is looked at.

    journal: path of its journal.
    settings: of its loop, for caps and limits.
    spreads: folder of the account that sells spreads, with its open ones; none shows none.
    clock: the instant of a page.
    """

    journal: Path
    settings: WatchedSettings
    spreads: Path | None = None
    clock: Callable[[], np.datetime64] = system_clock

    def page(self) -> str:
        """The page as the journal is now; what cannot be read is said on it."""
        now = self.clock()
        watched = Watched(self.journal, self.settings, self.spreads, now)
        sections = _sections()
        views = {**_VIEWS, **{word: section.view for word, section in sections.items()}}
        try:
            reader = JournalReader(self.journal)
            parts = {name: _part(view, reader, watched) for name, view in views.items()}
        except DatabaseFailed as error:
            parts = {"state": Part(trouble=str(error))}
        state = parts["state"].view
        return dashboard_page(
            sections.values(),
            account=self.journal.parent.name,
            journal=str(self.journal),
            contracts=watched.contracts,
            now=both_clocks(now),
            seconds=SECONDS,
            word=UNREAD if state is None else state["word"],
            **parts,
        )


def _sections() -> dict[str, Section]:
    return {word: registered_module("SECTIONS", word).SECTION for word in registered("SECTIONS")}


def _part(
    view: Callable[[JournalReader, Watched], View | None], reader: JournalReader, watched: Watched
) -> Part:
    """A section; what one of them cannot read keeps no other from being shown."""
    try:
        return Part(view=view(reader, watched))
    except InputError as error:
        return Part(trouble=str(error))
    except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError) as error:
        return Part(trouble=f"what the journal says there makes no sense: {error}")


@contextmanager
def served_dashboard(dashboard: Dashboard, port: int = PORT) -> Iterator[str]:
    """Show the page on a port of this machine within; 0 takes any that is free.

    Yields its address.

    Raises
    ------
    InputError
        for a port that cannot be used.
    """
    if not 0 <= port <= LAST_PORT:
        raise InputError(f"--port: {port} cannot be used: name one of 1 … {LAST_PORT}, or 0: any")
    try:
        server = _Server((LOOPBACK, port), _handler_of(dashboard))
    except OSError as error:
        reason = error.strerror or error
        raise InputError(f"--port: {port} cannot be used: {reason}; name another one") from error
    thread = threading.Thread(target=server.serve_forever, name="dashboard", daemon=True)
    thread.start()
    try:
        yield f"http://{LOOPBACK}:{server.server_port}/"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def watch(dashboard: Dashboard, port: int) -> None:
    """Show the page of an account until the command is ended."""
    with served_dashboard(dashboard, port) as address:
        with printing():
            sys.stdout.write(f"The dashboard is at {address} until this command is ended.\n")
        threading.Event().wait()


def watched_settings(account: str, words: list[str]) -> WatchedSettings:
    """The settings that an account's page takes caps and limits from."""
    if holds_contracts(account):
        module = registered_module("ACCOUNTS", "contracts")
        settings: WatchedSettings = module.watched_settings(words)
        return settings
    return LiveSettings.of(composed_config("live", words))


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def server_bind(self) -> None:
        """Bind without asking a name server what this machine is called."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = LOOPBACK, self.server_address[1]

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A reader that went away is no trouble; anything else goes to the log."""
        del request
        log.error("the page for %s: %r", client_address, sys.exception())


def is_host_of(header: str | None, port: int) -> bool:
    """Whether a request was meant for this server: no other name leads a browser here.

    header: its Host.
    """
    names = {name for host in HOSTS for name in (host, f"{host}:{port}")}
    return header is not None and header.lower() in names


def security_headers(page: str) -> dict[str, str]:
    """Headers under which a browser runs nothing, fetches nothing, and keeps nothing of a page."""
    style = re.search("<style>(.*?)</style>", page, re.DOTALL)
    digest = hashlib.sha256((style[1] if style else "").encode()).digest()
    allowed = f"'sha256-{base64.b64encode(digest).decode()}'"
    return {
        "Content-Security-Policy": (
            f"default-src 'none'; style-src {allowed}; base-uri 'none'; form-action 'none';"
            " frame-ancestors 'none'"
        ),
        "X-Content-Type-Options": "nosniff",
        "X-Frame-Options": "DENY",
        "Referrer-Policy": "no-referrer",
        "Cross-Origin-Resource-Policy": "same-origin",
        "Cache-Control": "no-store",
    }


def _handler_of(dashboard: Dashboard) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        """Answers `GET /`, and nothing else."""

        server: _Server
        timeout = PATIENCE
        server_version = "dashboard"
        sys_version = ""

        def do_GET(self) -> None:
            """Answer."""
            if not is_host_of(self.headers.get("Host"), self.server.server_port):
                text = "This page is for this machine alone.\n"
                self._answer(HTTPStatus.MISDIRECTED_REQUEST, text, "text/plain")
            elif self.path != "/":
                self._answer(HTTPStatus.NOT_FOUND, "The page is at /\n", "text/plain")
            else:
                self._answer(HTTPStatus.OK, dashboard.page(), "text/html", Refresh=str(SECONDS))

        def _refuse(self) -> None:
            text = "This page is only read.\n"
            self._answer(HTTPStatus.METHOD_NOT_ALLOWED, text, "text/plain", Allow="GET")

        do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = do_TRACE = _refuse

        def _answer(self, status: HTTPStatus, text: str, kind: str, **headers: str) -> None:
            content = text.encode()
            self.send_response(status)
            self.send_header("Content-Type", f"{kind}; charset=utf-8")
            self.send_header("Content-Length", str(len(content)))
            for name, value in {**security_headers(text), **headers}.items():
                self.send_header(name, value)
            # A reader that goes away while it is answered is none.
            with suppress(ConnectionError):
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(content)

        def log_message(self, format: str, *values: object) -> None:
            """Whoever asks is not logged."""

    return Handler
