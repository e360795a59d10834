"""Endpoints of messages and what became of them."""
