"""What a year of trades may bring: the command `option_spreads.monte_carlo`."""

import runpy

if __name__ == "__main__":
    runpy.run_module("option_spreads.monte_carlo", run_name="__main__")
