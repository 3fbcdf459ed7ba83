"""Charts as data: what a page carries is what was given, and text in it is text."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jinja2 import UndefinedError

from foundation.charts import (
    MAX_CURVE_POINTS,
    Chart,
    Series,
    build_pit_density_chart,
    horizontal_line,
    select_downsample_indices,
)
from foundation.page import escape_single_quotes, render_page
from foundation.tables import Table
from tests.support.pages import charts_of

START = np.datetime64("2024-03-04T14:30", "ns")
numbers = st.lists(
    st.one_of(st.just(np.nan), st.floats(-1e9, 1e9, allow_subnormal=False)), min_size=1
)


def drawn(chart: Chart) -> str:
    """A page with a chart."""
    return f"<figure data-chart='{escape_single_quotes(chart.json)}'></figure>"


def test_undefined_template_value_is_an_error() -> None:
    with pytest.raises(UndefinedError, match="is undefined"):
        render_page("event_contracts/policies.html.j2")


@given(numbers, numbers)
def test_chart_data_keep_eight_digits_and_whole_seconds(
    first: list[float], second: list[float]
) -> None:
    series = []
    for name, values in (("a", first), ("b", first[::-1]), ("c", second)):
        at = START + np.timedelta64(3600, "s") * np.arange(len(values))
        series.append(Series(name, "first", at, np.array(values)))
    (chart,) = charts_of(drawn(Chart("text", tuple(series), time_zone="UTC")))
    for each, told in zip(chart["series"], series, strict=True):
        got = np.array(each["y"], dtype=float)
        np.testing.assert_allclose(got, told.values, rtol=1e-7)
        seconds = np.array(each["x"], dtype="datetime64[s]")
        np.testing.assert_array_equal(seconds, told.x.astype("datetime64[s]"))


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=3000), st.integers(10, MAX_CURVE_POINTS))
def test_thinned_curve_keeps_both_ends_and_extremes(values: list[float], most: int) -> None:
    curve = np.array(values)
    kept = select_downsample_indices(curve, most)
    assert len(kept) <= most
    assert (np.diff(kept) > 0).all()
    assert {0, len(curve) - 1} <= set(kept.tolist())
    assert (curve[kept].min(), curve[kept].max()) == (curve.min(), curve.max())


def test_chart_names_and_labels_are_html_escaped() -> None:
    hostile = "\"'><script>alert(1)</script>&amp;"
    x = np.arange(2.0)
    chart = Chart(hostile, (Series(hostile, "first", x, x),), x_labels=(hostile, "b"))
    page = render_page(
        "event_contracts/open_sizes.html.j2", markets=1, sizes=_sizes(chart), over_time=None
    )
    assert "<script" not in page
    (carried,) = charts_of(page)
    assert carried["series"] == json.loads(chart.json)["series"]
    assert carried["series"][0]["name"] == carried["labels"][0] == hostile


def _sizes(chart: Chart) -> dict[str, object]:
    empty = Table("", (), [])
    return {"metrics_table": empty, "size_histogram": empty, "profit_chart": chart}


def test_calibrated_pit_chart_has_density_one() -> None:
    even = (np.arange(200) + 0.5) / 200
    low = np.full(10, 0.01)
    chart = build_pit_density_chart("PIT", [even, low], ["ours", "other"], "calibrated")
    assert chart.description == "PIT in 20 bins: " + ", ".join(["1.00"] * 20)
    assert [(s.name, s.colour, s.form) for s in chart.series] == [
        ("ours", "first", "area"),
        ("other", "second", "steps"),
        ("calibrated", "limit", "line"),
    ]
    ours, other, calibrated = (each.values for each in chart.series)
    np.testing.assert_allclose(ours, 1.0)
    assert (other[0], other[1:].max()) == (20.0, 0.0)
    assert calibrated.tolist() == [1.0, 1.0]
    assert horizontal_line(0.5, np.arange(9.0), "quiet").x.tolist() == [0.0, 8.0]
