"""Values of orders, what they cost, and the rules by which a venue takes them."""
