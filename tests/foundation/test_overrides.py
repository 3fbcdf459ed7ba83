"""Words key=value as people type them: what would be misread is said, in one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from foundation.errors import InputError
from foundation.overrides import (
    refuse_empty,
    refuse_repeated,
    refuse_underscored,
    refuse_words,
    with_home,
)


@pytest.mark.parametrize(
    "words",
    [["start=a", "start=b"], ["start=a", "capital=1", "+start=b"], ["-m", "++start=a", "start=b"]],
)
def test_a_key_that_two_words_give_a_value_is_refused(words: list[str]) -> None:
    with pytest.raises(InputError, match=r"^start was given twice: a and b; leave one of them$"):
        refuse_repeated(words)


@pytest.mark.parametrize("words", [["s.f=1", "s={f: 2}"], ["s={f: 2}", "+s.g=1"]])
def test_a_group_in_braces_beside_a_key_of_it_is_refused(words: list[str]) -> None:
    with pytest.raises(InputError, match=r"^s was given twice: s=\{f: 2\} and s\.. ?= ?1"):
        refuse_repeated(words)
    refuse_repeated(["forecaster=ewma", "forecaster.context_length=50"])


def test_flags_and_different_keys_may_stand_together() -> None:
    refuse_repeated(["start=a", "data.start=a", "--by", "--by", "NVDA", "NVDA"])


@pytest.mark.parametrize(
    "word",
    [
        "~forecaster",
        "~start=a",
        "~nobody_at_all/x",
        "d=['~no_one/x']",
        "hydra.launcher._target_=x.Y",
    ],
)
def test_nothing_is_taken_away_nor_named_that_is_none(word: str) -> None:
    refuse_words(["~/runs", "data.dir=[~/a,~]", "'~root/x'", "url=http://x/~no_one"])
    with pytest.raises(
        InputError, match=r": (~ takes nothing away; leave|there is no user no|Hydra's own groups)"
    ):
        refuse_words([word])


@pytest.mark.parametrize(
    ("word", "says"),
    [
        ("start=", "start: it is empty"),
        ("data.dir=", "data.dir: it is empty; name a folder or a file"),
        ("=5", "'=5': a setting's name is missing before the ="),
    ],
)
def test_nothing_before_or_after_an_equals_sign_is_refused(word: str, says: str) -> None:
    with pytest.raises(InputError) as refused:
        refuse_empty(["capital=5", word])
    assert str(refused.value).startswith(says)


@pytest.mark.parametrize(
    ("word", "home"),
    [
        ("data.dir=~/bars", "data.dir={}/bars"),
        ("data.dir=[~/a,b,~/c]", "data.dir=[{}/a,b,{}/c]"),
        ("data.dir='~/a'", "data.dir='~/a'"),
    ],
)
def test_a_tilde_at_the_beginning_of_a_value_is_the_users_folder(
    word: str, home: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Path, "home", lambda: Path("/home/ada"))
    assert with_home(word) == home.replace("{}", "/home/ada")


@pytest.mark.parametrize(
    ("word", "says"),
    [
        ("runs=1_000", "runs=1_000: it would be read as runs=1000; write that, or"),
        ("runs=+1_0e3", "runs=\\+10e3"),
        ("above=1_0.5", "above=10.5"),
        ("output=2024_10", "or where a word is meant 'output=\"2024_10\"'"),
    ],
)
def test_a_number_with_underscores_is_refused_with_what_to_write(word: str, says: str) -> None:
    with pytest.raises(InputError, match=says):
        refuse_underscored([word])


def test_words_with_underscores_are_no_numbers() -> None:
    refuse_underscored(["output=runs_10", "output='2024_10'", "1_000", "seed=10", "a_1=5"])
