"""Sessions, an exchange and an environment of event contracts, and what is learned on them."""
