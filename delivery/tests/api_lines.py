"""Who may ask which endpoint of this floor: its part of the table; see accounts/tests/api_table.py (SEC-1)."""

LINES = {}


def rows_of(tenant, account):
    """One row of each kind, of this tenant."""
    return {}
