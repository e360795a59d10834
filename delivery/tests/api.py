"""Callers of the API in tests: applications by real keys, people as if they had signed in."""

from __future__ import annotations

from rest_framework.test import APIClient

from accounts.api_keys import issue_api_key


def by_key(account, *scopes):
    """An application that has a key of this account with these scopes."""
    client = APIClient()
    _, text = issue_api_key(account, scopes)
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {text}")
    return client


def as_person(user):
    client = APIClient()
    client.force_authenticate(user)
    return client
