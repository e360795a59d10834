"""Clients of the API that have signed in."""

from rest_framework.test import APIClient

from accounts.api import tokens


def signed_in(person):
    """A client that acts for this person."""
    _, told = tokens.begin(person, None, "tests")
    return bearer(told["access"])


def bearer(token):
    """A client that shows this token or key."""
    return APIClient(headers={"Authorization": f"Bearer {token}"})
