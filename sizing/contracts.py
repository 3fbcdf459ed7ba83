"""How many contracts of an option spread: the command `option_spreads.contracts`."""

import runpy

if __name__ == "__main__":
    runpy.run_module("option_spreads.contracts", run_name="__main__")
else:
    from option_spreads.contracts import calculate_position_size as calculate_position_size
    from option_spreads.contracts import get_max_risk_for_strategy as get_max_risk_for_strategy
