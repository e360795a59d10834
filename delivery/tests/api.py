"""Callers of the API in tests: applications by real keys, people as if they had signed in."""

from __future__ import annotations

from contextlib import contextmanager

from django.db import connection
from django.test.utils import CaptureQueriesContext
from rest_framework.test import APIClient

from accounts import wall
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


@contextmanager
def questions(most):
    """At most so many questions to the database within, beside those of the wall between tenants (SEC-2)."""
    wall.is_up()  # asked once in a process
    with CaptureQueriesContext(connection) as captured:
        yield
    asked = [one["sql"] for one in captured if "set_config" not in one["sql"]]
    assert len(asked) <= most, asked
