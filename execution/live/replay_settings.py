"""The settings of a replay: those that decide stay the same to its end; all are in config.yaml."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

import yaml

from execution.live.settings import LiveSettings
from foundation.errors import InputError
from trainingdata.feed.endpoint import Keys

# How the server is reached, where things are kept and told, and what no replay reads.
UNDECIDED = (
    "broker",
    "folder",
    "healthcheck_url",
    "alert_url",
    "start",
    "end",
    "data.dir",
    "forecaster.cache",
)
SECRETS = ("healthcheck_url", "alert_url")
MOST_SHOWN = 4  # settings that a refusal names
LONGEST = 60  # letters of a value in it


def deciding_settings(settings: LiveSettings) -> dict[str, str]:
    """The settings that say what a replay decides, as JSON by dotted key."""
    return {
        key: text
        for key, text in _by_dotted_key(asdict(settings), "")
        if not any(key == name or key.startswith(f"{name}.") for name in UNDECIDED)
    }


def _by_dotted_key(values: Mapping[str, Any], place: str) -> Iterator[tuple[str, str]]:
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from _by_dotted_key(value, f"{place}{key}.")
        else:
            yield f"{place}{key}", json.dumps(value, default=str)


def refuse_other_settings(before: Mapping[str, str], now: Mapping[str, str]) -> None:
    """Refuse to go on with a replay under other settings than it was begun with.

    before, now: JSON by dotted key.

    Raises
    ------
    InputError
        saying what differs, and what to do.
    """
    names = [key for key in {**now, **before} if before.get(key) != now.get(key)]
    if not names:
        return
    shown = [f"{key} {_shown(before, key)} (now {_shown(now, key)})" for key in names[:MOST_SHOWN]]
    if len(names) > MOST_SHOWN:
        shown.append(f"{len(names) - MOST_SHOWN} more")
    raise InputError(
        f"{names[0]}: the replay on this server was begun with {', '.join(shown)}; go on with the"
        " words that it was begun with, or begin the server again for another replay"
    )


def _shown(values: Mapping[str, str], key: str) -> str:
    text = values.get(key, "unset").replace('"', "")
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"


def config_text(settings: LiveSettings, keys: Keys) -> str:
    """All settings as YAML, without keys, passwords and the addresses that are secrets."""
    values = asdict(settings)
    for name in SECRETS:
        values[name] = values[name] and "[secret]"
    plain = json.loads(json.dumps(values, default=str))
    return keys.redact(yaml.safe_dump(plain, sort_keys=False))
