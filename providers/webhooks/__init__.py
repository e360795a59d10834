"""What providers tell by webhook: who may tell it, and what it means (EVT-1)."""
