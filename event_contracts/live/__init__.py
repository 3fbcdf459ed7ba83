"""The loop that trades event contracts, and its account."""
