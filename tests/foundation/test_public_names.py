"""What a notebook imports: a name a thing, documented, loaded when it is used."""

from __future__ import annotations

import importlib
import inspect

import pytest

from foundation import PACKAGES

ROOMS = [room for room in PACKAGES if hasattr(importlib.import_module(room), "__all__")]


@pytest.mark.parametrize("room", ROOMS)
def test_every_public_name_exists_and_is_documented(room: str) -> None:
    package = importlib.import_module(room)
    assert len(package.__all__) >= 5
    assert set(package.__all__) <= set(dir(package)), "completion offers them"
    for name in package.__all__:
        thing = getattr(package, name)
        assert thing.__name__ == name
        assert len(inspect.getdoc(thing) or "") > 20, name
        assert name in vars(package), "kept once it has been loaded"
    with pytest.raises(AttributeError, match=f"{room}.*no_such_name"):
        package.no_such_name  # noqa: B018
