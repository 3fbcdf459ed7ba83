"""A product that nobody here knows: all that it takes is its name among the rooms."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.e2e.practice import ROOT, Start, environment

FILES = {
    "__init__.py": '''"""Notes on dividends."""
from foundation.registry import Command
COMMANDS = {"dividend_notes": Command("dividend_notes.show")}
JOBS = {"dividends": "dividend_notes.job"}
''',
    "show.py": '''"""Shows notes on dividends."""
from foundation.command import Result
def read(words): return list(words), None
def run(settings: list) -> Result: return Result(sentences=[f"notes: {settings}"])
''',
    "job.py": '''"""Counts its looks."""
from contextlib import contextmanager
from execution.live.page import Section
class Job:
    name, looks = "dividends", 0
    def due(self, now): return None if self.looks else now
    def step(self): self.looks += 1
    def finish(self, *, flatten): return []
    def at_risk(self): return {}
    section = property(lambda self: Section("Dividends", lambda: f"<p>{self.looks} look</p>"))
@contextmanager
def open_job(settings, keys, live, over): yield Job()
''',
}
MAIN = """import json, sys
import foundation.executed as rooms; rooms.ROOMS += ("dividend_notes",)
import kelly_chronos
for words in json.loads(sys.argv[1]):
    sys.argv = ["kelly-chronos", *words]
    try:
        kelly_chronos.main()
    except SystemExit as ended:
        assert not ended.code
"""


def test_a_product_brings_a_command_a_job_and_a_section_of_the_page_by_its_name_alone(
    practice: Start, tmp_path: Path
) -> None:
    (tmp_path / "dividend_notes").mkdir()
    for name, text in FILES.items():
        (tmp_path / "dividend_notes" / name).write_text(text)
    url = f"broker.url_override={practice('symbols=[SYA]').url}"
    env = environment(tmp_path, PYTHONPATH=os.pathsep.join(map(str, (ROOT, tmp_path))))
    loop = ["trade_stock_e2e", "mode=paper", "jobs=[dividends]", "symbols=[SYA]", url]
    words = json.dumps([[], ["dividend_notes", "of", "ACME"], loop])
    command = [sys.executable, "-c", MAIN, words]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=env)
    assert done.returncode == 0, done.stderr
    listed, _, said = done.stdout.partition("notes: ")
    assert "dividend_notes" in listed
    assert said.startswith("['of', 'ACME']\n")
    (page,) = tmp_path.glob("data/live/*/status.html")
    assert "<h2>Dividends</h2><p>1 look</p>" in page.read_text()
