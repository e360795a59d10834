"""Role × endpoint × own and other tenant, for every endpoint there is: API-1, API-3, SEC-1, SEC-2.

A new endpoint without a line in the table fails; see accounts/tests/api_table.py for how to write one.
"""

import pytest
from django.db import transaction
from drf_spectacular.generators import EndpointEnumerator
from rest_framework.test import APIClient

from accounts.api_keys import issue_api_key
from accounts.models import ApiKey
from accounts.tests import api_lines as accounts
from accounts.tests.api_client import signed_in
from accounts.tests.api_table import ROLES, Line
from accounts.tests.factories import AccountFactory, UserFactory
from delivery.tests import api_lines as delivery
from providers.tests import api_lines as providers
from smtpproxy import api

pytestmark = pytest.mark.django_db
FLOORS = (accounts, providers, delivery)
LINES = {name: line for floor in FLOORS for name, line in floor.LINES.items()}
LINES |= {"GET schema": Line(public=True), "GET docs": Line(public=True)}
LINES["GET health"] = Line(public=True)


def registered():
    found = set()
    for path, _, method, _ in EndpointEnumerator(patterns=api.urlpatterns).get_api_endpoints():
        found.add(f"{method} {path.strip('/').replace('{pk}', '{id}')}")
    return found


@pytest.fixture
def cast(acme, globex, operator, settings):
    """Rows of both tenants, and a client for everybody who asks: a person of each role, keys, somebody unknown."""
    settings.API_REQUESTS_PER_MINUTE = 10_000
    accounts_of = {tenant: AccountFactory(tenant=tenant, username=f"marker@{tenant.slug}") for tenant in (acme, globex)}
    rows = {
        tenant.slug: {name: row for floor in FLOORS for name, row in floor.rows_of(tenant, account).items()}
        for tenant, account in accounts_of.items()
    }
    clients = {"nobody": APIClient()}
    for role in ROLES:
        clients[role] = signed_in(operator if role == "operator" else UserFactory(tenant=acme, role=role))
    for scope in ApiKey.Scope.values:
        _, text = issue_api_key(accounts_of[acme], [scope])
        clients[f"key {scope}"] = APIClient(headers={"Authorization": f"Bearer {text}"})
    return rows, clients


def ask(client, name, line, row, rows):
    """The status, with whatever it did undone."""
    method, path = name.split(" ", 1)
    address = f"/api/v1/{path}".replace("{id}", str(row.pk) if row else "") + line.query
    body = line.body(rows) if callable(line.body) else line.body
    with transaction.atomic():
        answer = (
            client.generic(method, address)
            if method == "GET"
            else getattr(client, method.lower())(address, body, format="json")
        )
        transaction.set_rollback(True)
    return answer


def test_every_endpoint_has_a_line_in_the_table_and_every_line_an_endpoint():
    assert sorted(registered()) == sorted(LINES)


@pytest.mark.parametrize("name", sorted(name for name in LINES if not LINES[name].public))
def test_each_role_may_do_what_the_table_says_and_nothing_in_another_tenant(name, cast):
    rows, clients = cast
    line = LINES[name]
    may = {*line.who.split(), *(f"key {scope}" for scope in line.scopes.split())}
    unknown = may - set(clients)
    assert not unknown
    own, other = rows["acme"], rows["globex"]
    for who, client in clients.items():
        answer = ask(client, name, line, own.get(line.row), own)
        expected = {401} if who == "nobody" else line.expected if who in may else {403}
        assert answer.status_code in expected, (who, answer.content)
        if who in may and who != "operator" and answer.status_code < 300:
            content = b"".join(answer.streaming_content) if answer.streaming else answer.content
            assert b"globex" not in content.lower(), who
        if line.row and who not in ("nobody", "operator"):
            answer = ask(client, name, line, other[line.row], own)
            assert answer.status_code == (404 if who in may else 403), (who, answer.content)
