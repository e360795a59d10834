"""What every endpoint below `/api/v1/` shares: who calls, what they may, pages, errors (API-3, API-4, SEC-2)."""
