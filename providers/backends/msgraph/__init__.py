"""Microsoft Graph; see `backend`."""
