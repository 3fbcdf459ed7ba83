"""A product that nobody here knows: all that it takes is its entry points."""

# Private access: installed entry points are cached per process, and this test installs new ones.
from __future__ import annotations

from functools import partial
from pathlib import Path
from runpy import run_module

import pytest

from foundation import plugin
from tests.e2e.practice import Start, environment
from tests.e2e.refused import answer_of

FILES = {
    "../dividend_notes-1.0.dist-info/METADATA": "Name: dividend-notes\nVersion: 1.0\n",
    "../dividend_notes-1.0.dist-info/entry_points.txt": "[kelly_chronos.products]\n"
    "notes = dividend_notes\n[kelly_chronos.jobs]\ndividends = dividend_notes.job:open_job\n",
    "__init__.py": '''"""Notes on dividends."""
from foundation.cli import Command
COMMANDS = {"dividend_notes": Command("dividend_notes.show")}
''',
    "show.py": '''"""Shows notes on dividends."""
from foundation.cli import Result
def parse_arguments(words): return list(words), None
def run(settings: list) -> Result: return Result(closing_lines=[f"notes: {settings}"])
''',
    "job.py": '''"""Counts its looks."""
from contextlib import contextmanager
from execution.live.status_page import PageSection
class Job:
    name, looks = "dividends", 0
    def next_step_time(self, now): return None if self.looks else now
    def step(self): self.looks += 1
    def finish(self, *, flatten): return []
    section = property(lambda self: Looks(self))
class Looks(PageSection):
    title = "Dividends"
    def __init__(self, job): self.job = job
    def body(self): return f"<p>{self.job.looks} look</p>"
@contextmanager
def open_job(settings, keys, live): yield Job()
''',
}


def test_plugin_adds_command_job_and_page_section(
    practice: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "dividend_notes").mkdir()
    (tmp_path / "dividend_notes-1.0.dist-info").mkdir()
    for name, text in FILES.items():
        (tmp_path / "dividend_notes" / name).write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(
        plugin, "_installed_entry_points", plugin._installed_entry_points.__wrapped__
    )
    for name, value in environment(tmp_path).items():
        monkeypatch.setenv(name, value)

    def told(*words: str) -> str:
        run = partial(run_module, run_name="__main__")
        code, printed, said = answer_of("kelly_chronos", *words, cwd=tmp_path, run=run)
        assert code == 0, said
        return printed

    assert "dividend_notes" in told()
    assert told("dividend_notes", "of", "ACME") == "notes: ['of', 'ACME']\n"
    url = f"broker.url_override={practice('symbols=[SYA]').url}"
    told("trade_stock_e2e", "mode=paper", "jobs=[dividends]", "symbols=[SYA]", url)
    (page,) = tmp_path.glob("data/live/*/status.html")
    assert "<h2>Dividends</h2><p>1 look</p>" in page.read_text()
