"""Clients of the API that have signed in."""

from rest_framework.test import APIClient


def signed_in(person):
    """A client that acts for this person."""
    client = APIClient()
    client.force_authenticate(person)
    return client
