"""Option spreads: their rules, what an entry offers, orders of legs, what is open, the seller."""
