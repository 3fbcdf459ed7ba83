"""Alpaca as a venue: accounts, activities, orders and options."""
