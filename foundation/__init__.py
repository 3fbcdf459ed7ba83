"""What every room stands on: errors, configuration, command lines, files, compiled functions.

It knows no market.
"""

VERSION = "1.0.0"  # CHANGELOG.md says what it promises
# From the layer that knows the others least to those that know most; see pyproject.toml.
PACKAGES = (
    "foundation",
    "trainingdata",
    "forecasting",
    "sizing",
    "execution",
    "marketsimulator",
    "option_spreads",
    "event_contracts",
)
