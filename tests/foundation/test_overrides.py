"""Words key=value as people type them: what would be misread is said, in one line."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from foundation.compose import (
    expand_home,
    refuse_empty_overrides,
    refuse_repeated_keys,
    refuse_underscored_numbers,
    refuse_unsupported_syntax,
)
from foundation.errors import InputError
from tests.support.messages import refused


@pytest.mark.parametrize(
    ("refuse", "words", "facts"),
    [
        (refuse_repeated_keys, ["start=a", "start=b"], ("start", "a and b")),
        (refuse_repeated_keys, ["start=a", "seed=1", "+start=b"], ("start", "a and b")),
        (refuse_repeated_keys, ["-m", "++start=a", "start=b"], ("start", "a and b")),
        (refuse_repeated_keys, ["s.f=1", "s={f: 2}"], ("s={f: 2}", "s.f=1")),
        (refuse_repeated_keys, ["s={f: 2}", "+s.g=1"], ("s={f: 2}", "s.g=1")),
        (refuse_unsupported_syntax, ["~forecaster"], ("~forecaster",)),
        (refuse_unsupported_syntax, ["~start=a"], ("~start=a",)),
        (refuse_unsupported_syntax, ["~nobody_at_all/x"], ("~nobody_at_all/x", "nobody_at_all")),
        (refuse_unsupported_syntax, ["d=['~no_one/x']"], ("d=['~no_one/x']", "no_one")),
        (
            refuse_unsupported_syntax,
            ["hydra.launcher._target_=x.Y"],
            ("hydra.launcher._target_=x.Y",),
        ),
        (refuse_empty_overrides, ["capital=5", "start="], ("start",)),
        (refuse_empty_overrides, ["=5"], ("'=5'",)),
        (refuse_underscored_numbers, ["runs=1_000"], ("runs=1_000", "runs=1000")),
        (refuse_underscored_numbers, ["runs=+1_0e3"], ("runs=+1_0e3", "runs=+10e3")),
        (refuse_underscored_numbers, ["above=1_0.5"], ("above=1_0.5", "above=10.5")),
    ],
)
def test_ambiguous_arguments_are_refused_by_name(
    refuse: Callable[[Sequence[str]], None], words: list[str], facts: tuple[str, ...]
) -> None:
    with refused(InputError, *facts):
        refuse(words)


def test_unambiguous_arguments_are_accepted() -> None:
    refuse_repeated_keys(["start=a", "data.start=a", "--by", "--by", "NVDA", "NVDA"])
    refuse_repeated_keys(["forecaster=ewma", "forecaster.context_length=50"])
    refuse_unsupported_syntax(["~/runs", "data.dir=[~/a,~]", "'~root/x'", "url=http://x/~no_one"])
    refuse_underscored_numbers(["output=runs_10", "output='2024_10'", "1_000", "seed=10", "a_1=5"])


@pytest.mark.parametrize(
    ("word", "home"),
    [
        ("data.dir=~/bars", "data.dir={}/bars"),
        ("data.dir=[~/a,b,~/c]", "data.dir=[{}/a,b,{}/c]"),
        ("data.dir='~/a'", "data.dir='~/a'"),
    ],
)
def test_leading_tilde_expands_to_the_home_folder(
    word: str, home: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Path, "home", lambda: Path("/home/ada"))
    assert expand_home(word) == home.replace("{}", "/home/ada")
