"""The picture of a report in README shows the page of the demonstration as it is today."""

from __future__ import annotations

import base64
import io
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from foundation.compose import compose_config
from foundation.files import write_files_atomically
from marketsimulator.backtest import run_backtest
from marketsimulator.results.report import result_file_writers
from marketsimulator.settings import BacktestSettings
from tests.e2e.chromium import Page

PICTURE = Path(__file__).resolve().parents[3] / "docs" / "report.png"
WIDTH, HEIGHT = 1280, 900  # pixels
TEXT = "Description"  # of the PNG format: the words of the page, digits replaced by 0
MAX_DIFFERENCE = 8.0  # mean difference of brightness, 0 to 255: fonts differ between machines


def words_of(text: str) -> str:
    """Return a page's words without the values of figures, which differ between processors."""
    return " ".join(re.sub(r"[-+]?[\d,.]*\d", "0", text).split())


def brightness(picture: bytes | Path) -> np.ndarray:
    """Return the brightness of a picture in blocks of 20 × 20 pixels."""
    source = picture if isinstance(picture, Path) else io.BytesIO(picture)
    with Image.open(source) as image:
        small = image.convert("L").resize((WIDTH // 20, HEIGHT // 20), Image.Resampling.BOX)
        return np.asarray(small, dtype=np.float64)


@pytest.mark.slow
def test_readme_picture_matches_the_current_demonstration_page(
    browser: Page, tmp_path: Path
) -> None:
    settings = BacktestSettings.from_config(
        compose_config("backtest", ["start=2024-01-02", "trials=null", "forecaster.device=cpu"])
    )
    results = run_backtest(settings)
    write_files_atomically(result_file_writers(results, results.summary()), tmp_path / "run")
    browser.open((tmp_path / "run" / "report.html").as_uri(), WIDTH)
    browser.settle()
    words = words_of(browser.value("document.body.innerText"))
    shot = base64.b64decode(browser.ask("Page.captureScreenshot", format="png")["data"])
    today = tmp_path / "report.png"
    with Image.open(io.BytesIO(shot)) as image:
        info = PngInfo()
        info.add_itxt(TEXT, words)
        image.convert("P", palette=Image.Palette.ADAPTIVE).save(today, pnginfo=info, optimize=True)
    advice = f"look at {today} and copy it to {PICTURE}"
    with Image.open(PICTURE) as image:
        assert image.size == (WIDTH, HEIGHT), advice
        # Rows ordered by figures may change places between processors.
        assert sorted(image.text.get(TEXT, "").split()) == sorted(words.split()), advice
    difference = np.abs(brightness(PICTURE) - brightness(shot)).mean()
    assert difference < MAX_DIFFERENCE, advice
