"""Orders and fills, their costs, and the rules by which a venue accepts them."""
