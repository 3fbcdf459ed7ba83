"""Sessions, an exchange, environments of event contracts, and learning on them."""
