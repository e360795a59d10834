"""Why `manage.py serve` does not start."""


class CannotServe(Exception):
    """The text tells the person at the terminal what to do."""
