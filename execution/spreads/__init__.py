"""Option spreads: what to sell, the orders for it, what is open, and the step that sells."""
