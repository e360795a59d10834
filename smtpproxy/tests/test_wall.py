"""The second wall: what a tenant's request may ask of PostgreSQL itself, without our own door (SEC-2)."""

import pytest
from django.conf import settings
from django.core.management import call_command
from django.core.management.base import SystemCheckError
from django.db import DatabaseError, connection, connections, transaction
from django.test import override_settings
from django.urls import reverse

from accounts import wall, wall_policies
from accounts.models import Account, User
from accounts.tests.factories import AccountFactory, TenantFactory, UserFactory
from delivery.models import Message
from delivery.tests.factories import MessageFactory
from providers.tests.factories import ProviderFactory
from smtpproxy.tests.rows_of_all import PLATFORM, rows_of_all

pytestmark = [
    pytest.mark.django_db,
    pytest.mark.skipif(connection.vendor != "postgresql", reason="SQLite has no row-level security"),
]


@pytest.fixture(autouse=True)
def _looked_at_anew():
    wall.forget()
    yield
    wall.leave()
    wall.forget()


def keys(model, sql="SELECT {key} FROM {table}"):
    """The keys of what raw SQL finds in the table of a model."""
    key, table = (connection.ops.quote_name(name) for name in (model._meta.pk.column, model._meta.db_table))
    with connection.cursor() as cursor:
        cursor.execute(sql.format(key=key, table=table))
        return {row[0] for row in cursor.fetchall()}


def role():
    with connection.cursor() as cursor:
        cursor.execute("SELECT current_user, current_setting(%s, true)", [wall.VARIABLE])
        return cursor.fetchone()


def test_every_table_with_rows_of_tenants_is_behind_the_wall_by_a_policy_of_its_own():
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT c.relname, c.relrowsecurity, array_remove(array_agg(p.polname::text), NULL) FROM pg_class c"
            " LEFT JOIN pg_policy p ON p.polrelid = c.oid WHERE c.relkind = 'r'"
            " AND c.relnamespace = current_schema()::regnamespace GROUP BY 1, 2"
        )
        found = {table: (walled, set(names)) for table, walled, names in cursor.fetchall()}
    for model in wall_policies.walled():
        assert found[model._meta.db_table] == (True, set(wall_policies.policies(model))), model
    framework = {connection.introspection.identifier_converter(t) for t in ("django_migrations",)}
    free = {table for table, (walled, _) in found.items() if not walled} - framework
    assert {t for t in free if not t.startswith(("auth_", "django_"))} == set(), "tables that no model's policy covers"


def test_raw_sql_finds_rows_of_the_own_tenant_in_every_table_and_none_of_another(acme, globex):
    ours, theirs = rows_of_all(acme), rows_of_all(globex)
    assert {type(row) for row in ours} == set(wall_policies.walled()) - PLATFORM
    with wall.around(acme.pk):
        for own, other in zip(ours, theirs, strict=True):
            found = keys(type(own))
            assert own.pk in found, type(own)
            assert other.pk not in found, type(own)


def test_raw_sql_changes_and_deletes_no_row_of_another_tenant_in_any_table(acme, globex):
    theirs = rows_of_all(globex)
    with wall.around(acme.pk):
        for row in theirs:
            for sql in (
                "UPDATE {table} SET {key} = {key} RETURNING {key}",
                "DELETE FROM {table} RETURNING {key}",
            ):
                with transaction.atomic():
                    assert row.pk not in keys(type(row), sql), (type(row), sql)
                    transaction.set_rollback(True)


def test_raw_sql_writes_no_row_for_another_tenant(acme, globex):
    with wall.around(acme.pk):
        with pytest.raises(DatabaseError, match="row-level security"), transaction.atomic():
            AccountFactory(tenant=globex)
        account = AccountFactory(tenant=acme)
        with pytest.raises(DatabaseError, match="row-level security"), transaction.atomic():
            Account.objects.filter(pk=account.pk).update(tenant=globex)


def test_without_a_tenant_the_role_sees_nothing_of_any(acme, globex):
    rows = [*rows_of_all(acme), *rows_of_all(globex)]
    with connection.cursor() as cursor, transaction.atomic():
        cursor.execute("SELECT set_config('role', %s, true)", [settings.DB_WEB_ROLE])
        for model in {type(row) for row in rows}:
            assert not keys(model) & {row.pk for row in rows}, model
        cursor.execute("RESET ROLE")


def test_shared_providers_are_seen_by_all_and_changed_by_none_of_them(acme):
    shared = ProviderFactory(tenant=None, name="shared")
    with wall.around(acme.pk):
        assert shared.pk in keys(type(shared))
        assert not type(shared).objects.filter(pk=shared.pk).update(name="mine")


@pytest.mark.parametrize("who", ["owner", "viewer", "operator"])
def test_a_request_of_the_admin_is_behind_the_wall_for_all_but_operators(who, client, acme, operator, monkeypatch):
    seen = []
    monkeypatch.setattr("django.contrib.admin.sites.AdminSite.each_context", lambda *_: seen.append(role()) or {})
    client.force_login(operator if who == "operator" else UserFactory(tenant=acme, role=who))
    client.get(reverse("admin:delivery_deliverylog_changelist"))
    expected = (settings.DB_WEB_ROLE, str(acme.pk)) if who != "operator" else ("postgres", "")
    assert {row[0] == settings.DB_WEB_ROLE for row in seen} == {expected[0] == settings.DB_WEB_ROLE}
    assert role()[0] != settings.DB_WEB_ROLE


def test_a_view_that_forgets_to_ask_for_the_tenant_shows_its_rows_only(client, acme, globex, monkeypatch):
    """The door is taken out: everybody is given everything."""
    MessageFactory(account__tenant=acme, subject="ours")
    MessageFactory(account__tenant=globex, subject="theirs")
    monkeypatch.setattr("accounts.tenant_admin.visible_to", lambda _, rows: getattr(rows, "objects", rows).all())
    client.force_login(UserFactory(tenant=acme, role=User.Role.OWNER))
    page = client.get(reverse("admin:delivery_message_changelist")).content.decode()
    assert "ours" in page
    assert "theirs" not in page


def test_a_connection_that_broke_comes_back_behind_the_wall(acme, globex, django_db_blocker):
    link = connections.create_connection("default")
    try:
        connections["default"], before = link, connections["default"]
        wall.enter(acme.pk)
        link.close()
        with link.cursor() as cursor:
            cursor.execute("SELECT current_user, current_setting(%s)", [wall.VARIABLE])
            assert cursor.fetchone() == (settings.DB_WEB_ROLE, str(acme.pk))
        wall.leave()
        with link.cursor() as cursor:
            cursor.execute("SELECT current_user, current_setting(%s)", [wall.VARIABLE])
            assert cursor.fetchone()[0] != settings.DB_WEB_ROLE
    finally:
        connections["default"] = before
        link.close()


def test_a_connection_that_cannot_go_back_is_closed(acme):
    link = connections.create_connection("default")
    connections["default"], before = link, connections["default"]
    try:
        wall.enter(acme.pk)
        link.set_autocommit(False)
        with pytest.raises(DatabaseError), link.cursor() as cursor:
            cursor.execute("SELECT 1 / 0")
        wall.leave()
        assert link.connection is None
        assert not wall.stands()
    finally:
        connections["default"] = before
        link.close()


def test_what_is_the_platforms_business_is_done_outside_and_the_wall_is_back_afterwards(acme, globex):
    with wall.around(acme.pk):
        with wall.lifted():
            assert globex.pk in keys(type(globex))
        with pytest.raises(RuntimeError), wall.lifted():
            raise RuntimeError
        assert keys(type(globex)) == {acme.pk}


def test_a_name_taken_by_another_tenant_is_told_at_its_field_and_nothing_more(client, acme, globex):
    AccountFactory(tenant=globex, username="taken@globex")
    client.force_login(UserFactory(tenant=acme, role=User.Role.OWNER))
    form = {"name": "new", "username": "Taken@Globex", "status": "active", "failure_notice": "dsn"}
    lists = {"allowed_senders": "[]", "client_networks": "[]"}
    page = client.post(reverse("admin:accounts_account_add"), {**form, **lists}).content.decode()
    assert "This username is taken" in page
    assert "Globex" not in page.replace("Taken@Globex", "")


def test_the_wall_is_put_up_again_by_migrate_where_a_policy_was_taken_away(acme, globex):
    with connection.cursor() as cursor:
        cursor.execute(f"DROP POLICY {wall_policies.NAME} ON delivery_message")
        cursor.execute("CREATE POLICY smtpproxy_tenant_hole ON delivery_message USING (true)")
    MessageFactory(account__tenant=globex)
    assert wall_policies.put_up("default") == ""
    with wall.around(acme.pk):
        assert keys(Message) == set()


def test_a_wall_that_cannot_be_put_up_is_told_and_everything_works_without_it(acme):
    with override_settings(DB_WEB_ROLE="pg_reserved"):
        assert "reserved" in wall_policies.put_up("default")
        with wall.around(acme.pk):
            assert not wall.stands()
        with pytest.raises(SystemCheckError, match=r"smtpproxy\.W022"):
            call_command("check", databases=["default"], fail_level="WARNING")


@override_settings(DB_WEB_ROLE="")
def test_it_can_be_left_off(acme):
    with wall.around(acme.pk):
        assert not wall.stands()


def test_a_tenant_made_now_is_behind_the_wall_at_once():
    tenants = [TenantFactory(), TenantFactory()]
    for tenant in tenants:
        with wall.around(tenant.pk):
            assert keys(type(tenant)) == {tenant.pk}
