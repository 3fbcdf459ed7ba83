"""Results of runs: figures, statistical significance, the trial ledger, reports."""
