"""People in the admin: SEC-1, SEC-5."""

import pytest
from django.urls import reverse

from accounts.models import AuditEntry, User
from accounts.tests.factories import UserFactory

pytestmark = pytest.mark.django_db
ADD = "/admin/accounts/user/add/"
PASSWORD = "a long pass phrase"


@pytest.fixture
def sign_in(client, acme):
    def signed_in_as(role):
        person = UserFactory(tenant=acme, role=role, email=f"me-{role}@acme.example")
        client.force_login(person)
        return person

    return signed_in_as


def new(**changes):
    return {
        "email": "New@Acme.example",
        "name": "New",
        "role": "user",
        "password1": PASSWORD,
        "password2": PASSWORD,
        **changes,
    }


def page_of(user):
    return reverse("admin:accounts_user_change", args=[user.pk])


def password_page_of(user):
    return reverse("admin:auth_user_password_change", args=[user.pk])


@pytest.mark.parametrize(
    ("actor", "role", "made"),
    [
        ("owner", "owner", True),
        ("owner", "viewer", True),
        ("admin", "admin", True),
        ("admin", "owner", False),
        ("admin", "emperor", False),
        ("admin", "", False),
        ("owner", "", False),
    ],
)
def test_who_makes_whom(client, acme, sign_in, actor, role, made):
    sign_in(actor)
    client.post(ADD, new(role=role))
    assert User.objects.filter(email="new@acme.example", role=role, tenant=acme).exists() == made


def test_a_new_person_belongs_to_the_tenant_of_who_made_them_and_is_no_operator(client, acme, globex, sign_in):
    sign_in("owner")
    client.post(ADD, new(tenant=str(globex.pk), is_superuser="on"))
    user = User.objects.get(email="new@acme.example")
    assert (user.tenant, user.is_superuser) == (acme, False)
    assert user.check_password(PASSWORD)
    entry = AuditEntry.objects.get(action="user.created")
    assert entry.changes["password"] == [None, "***"]


@pytest.mark.parametrize("weak", ["short", "password1234", "new@acme.example"])
def test_a_weak_password_is_refused(client, sign_in, weak):
    sign_in("owner")
    assert client.post(ADD, new(password1=weak, password2=weak)).status_code == 200
    assert not User.objects.filter(email="new@acme.example").exists()


def test_an_address_is_taken_once_whatever_its_case(client, acme, sign_in):
    sign_in("owner")
    UserFactory(tenant=acme, email="new@acme.example")
    assert client.post(ADD, new(email="NEW@ACME.EXAMPLE")).status_code == 200
    assert User.objects.filter(email__iexact="new@acme.example").count() == 1


def test_an_admin_has_no_power_over_an_owner(client, acme, sign_in):
    sign_in("admin")
    owner = UserFactory(tenant=acme, role="owner")
    assert client.get(page_of(owner)).status_code == 200
    assert client.post(page_of(owner), {"email": "x@acme.example", "role": "viewer"}).status_code == 403
    assert client.post(reverse("admin:accounts_user_delete", args=[owner.pk]), {"post": "yes"}).status_code == 403
    assert client.post(password_page_of(owner), {"password1": PASSWORD, "password2": PASSWORD}).status_code == 403
    chosen = {"action": "delete_selected", "_selected_action": [str(owner.pk)], "post": "yes"}
    assert client.post("/admin/accounts/user/", chosen).status_code == 403
    assert User.objects.filter(pk=owner.pk, role="owner", password=owner.password).exists()


def test_an_admin_makes_nobody_an_owner(client, acme, sign_in):
    me = sign_in("admin")
    other = UserFactory(tenant=acme, role="user")
    for user in (me, other):
        client.post(page_of(user), {"email": user.email, "name": "", "role": "owner", "is_active": "on"})
        assert User.objects.get(pk=user.pk).role == user.role


def test_nobody_takes_their_own_rights_away(client, sign_in):
    me = sign_in("owner")
    client.post(page_of(me), {"email": me.email, "name": "Renamed", "role": "viewer"})
    me.refresh_from_db()
    assert (me.name, me.role, me.is_active) == ("Renamed", "owner", True)
    for how in (client.get, client.post):
        answer = how(reverse("admin:accounts_user_delete", args=[me.pk]), {"post": "yes"}, follow=True)
        assert "You cannot delete yourself." in answer.content.decode()
    chosen = {"action": "delete_selected", "_selected_action": [str(me.pk)], "post": "yes"}
    assert "You cannot delete yourself." in client.post("/admin/accounts/user/", chosen).content.decode()
    assert User.objects.filter(pk=me.pk).exists()


def test_a_change_of_role_is_audited(client, acme, sign_in):
    me = sign_in("owner")
    other = UserFactory(tenant=acme, role="user")
    client.post(page_of(other), {"email": other.email, "name": "", "role": "admin", "is_active": "on"})
    entry = AuditEntry.objects.get()
    assert (entry.action, entry.actor, entry.changes) == ("user.changed", me, {"role": ["user", "admin"]})


def test_a_password_is_set_for_somebody_else_and_the_audit_says_so(client, acme, sign_in):
    sign_in("admin")
    other = UserFactory(tenant=acme, role="user")
    assert password_page_of(other) in client.get(page_of(other)).content.decode()
    assert client.get(password_page_of(other)).status_code == 200
    assert not AuditEntry.objects.exists()
    answer = client.post(password_page_of(other), {"password1": PASSWORD, "password2": PASSWORD})
    assert answer.status_code == 302
    assert User.objects.get(pk=other.pk).check_password(PASSWORD)
    assert AuditEntry.objects.get().action == "user.password_changed"
    client.cookies.clear()
    assert client.login(username=other.email, password=PASSWORD)


def test_another_tenants_password_page_is_not_found(client, globex, sign_in):
    sign_in("owner")
    other = UserFactory(tenant=globex, role="viewer")
    assert client.post(password_page_of(other), {"password1": PASSWORD, "password2": PASSWORD}).status_code == 404
    assert User.objects.get(pk=other.pk).password == other.password


@pytest.mark.parametrize("role", ["owner", "admin", "user"])
def test_no_hash_is_on_any_page(client, acme, sign_in, role):
    me = sign_in(role)
    for page in ("/admin/accounts/user/", page_of(me)):
        text = client.get(page).content.decode()
        assert me.email in text
        assert "argon2" not in text
        assert me.password.rpartition("$")[2] not in text


def test_an_operator_makes_operators_and_people_of_any_tenant(client, operator, globex):
    client.force_login(operator)
    client.post(ADD, new(email="op@platform.example", role="", tenant="", is_superuser="on"))
    assert User.objects.get(email="op@platform.example").is_superuser
    client.post(ADD, new(role="owner", tenant=str(globex.pk)))
    assert User.objects.get(email="new@acme.example").tenant == globex
    either = "A platform operator has no tenant and no role; everybody else has both."
    wrong = (
        ({"role": "user", "tenant": str(globex.pk), "is_superuser": "on"}, either),
        ({"role": "user", "tenant": ""}, either),
        ({"role": "", "tenant": str(globex.pk)}, either),
        (
            {"role": "", "tenant": ""},
            "Choose a tenant and a role, or tick Superuser status for a platform operator.",
        ),
    )
    for fields, text in wrong:
        answer = client.post(ADD, new(email="neither@platform.example", **fields))
        assert answer.content.decode().count(text) == 1
    assert not User.objects.filter(email="neither@platform.example").exists()


def test_nobody_but_an_operator_is_offered_to_make_one(client, acme, sign_in):
    sign_in("owner")
    assert "is_superuser" not in client.get(ADD).content.decode()
    assert User.objects.filter(is_superuser=True).count() == 0
