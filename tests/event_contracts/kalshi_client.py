"""Parses answers in Kalshi's own client; run by a Python that has `kalshi-python-sync`.

Reads a JSON list of [model, answer] from standard input, and prints each answer that does not
parse with the reason. Imports nothing of the project.
"""

from __future__ import annotations

import json
import sys

import kalshi_python_sync

for model, answer in json.load(sys.stdin):
    try:
        getattr(kalshi_python_sync, model).from_dict(answer)
    except Exception as error:  # noqa: BLE001 - whatever the client raises is the finding
        print(f"{model}: {' '.join(str(error).split())[:300]}")
