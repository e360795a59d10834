"""Links to choose a password, from asking for one to the new password: SEC-4, SEC-5, SEC-8."""

import base64
import io
import json
import re
import uuid
from datetime import datetime, timedelta
from urllib.parse import urlsplit

import pytest
from django.core.management import CommandError, call_command
from django.test import Client
from django.urls import reverse
from structlog.testing import capture_logs

from accounts import asking, password_links
from accounts.models import AuditEntry, Tenant, User, UserSession
from accounts.tests.api_client import signed_in
from accounts.tests.factories import AccountFactory, UserFactory
from delivery import chores, old_sessions, queue, tasks
from delivery.models import Message
from providers.backends.memory import MemoryBackend
from providers.exceptions import PermanentFailure
from providers.tests.factories import ProviderFactory

pytestmark = pytest.mark.django_db
ASK, SET = "/admin/password/forgotten/", "/admin/password/set/"
NEW = "a long pass phrase"
TOLD = "on its way"


@pytest.fixture(autouse=True)
def _empty_box(broker):
    asking.forget_here()
    MemoryBackend.box().accepted.clear()
    MemoryBackend.box().answers.clear()


@pytest.fixture
def ann(acme):
    return UserFactory(tenant=acme, email="ann@acme.example", role="admin")


def rung(broker):
    entries = broker.lrange("maintenance", 0, -1)
    broker.delete("maintenance")
    found = [json.loads(entry) for entry in entries]
    return [
        json.loads(base64.b64decode(one["body"]))[0] for one in found if one["headers"]["task"] == queue.PASSWORD_LINK
    ]


def work(broker):
    """What workers do with all that was rung for; returns it."""
    rings = rung(broker)
    for one in rings:
        tasks.password_link(*one)
    return rings


def ask(email="ann@acme.example", client=None, **more):
    return (client or Client()).post(ASK, {"email": email}, follow=True, **more)


def mailed():
    return MemoryBackend.box().accepted


def link_in(letter):
    return re.search(r"http\S+", letter.parse(letter.raw).text)[0]


def follow(link, client=None, password=NEW):
    client = client or Client()
    parts = urlsplit(link)
    page = client.get(f"{parts.path}?{parts.query}", follow=True)
    return page, client.post(SET, {"new_password1": password, "new_password2": password})


def actions():
    return list(AuditEntry.objects.order_by("id").values_list("action", flat=True))


# --- Forgotten ----------------------------------------------------------------------------------------------------
def test_who_forgot_the_password_chooses_a_new_one_by_mail_and_is_signed_out_everywhere(ann, acme, broker):
    ProviderFactory(tenant=acme)
    there = Client()
    there.force_login(ann)
    assert ASK in Client().get("/admin/login/").content.decode()
    with capture_logs() as logs:
        assert TOLD in ask("Ann@Acme.example").content.decode()
        rings = work(broker)
    assert rings == [[str(ann.pk), "reset", "http://testserver"]]
    [letter] = mailed()
    assert letter.recipients == ("ann@acme.example",)
    link = link_in(letter)
    assert link.startswith("http://testserver/admin/password/set/?")
    token = link.partition("token=")[2]
    assert token not in str(logs)
    assert not Message.objects.exists()

    browser = Client()
    page, answer = follow(link, browser, "short")
    assert page.redirect_chain == [(SET, 302)], "the address no longer shows the link"
    assert "For ann@acme.example" in page.content.decode()
    assert answer.status_code == 200
    assert "too short" in answer.content.decode()
    answer = browser.post(SET, {"new_password1": NEW, "new_password2": NEW})
    assert answer.headers["Location"] == "/admin/login/"
    assert User.objects.get(pk=ann.pk).check_password(NEW)
    assert there.get("/admin/account/").status_code == 302
    assert UserSession.objects.get().end_reason == "password_changed"
    assert actions()[-2:] == ["user.password_link_sent", "user.password_reset"]
    assert not any(token in str(entry.changes) for entry in AuditEntry.objects.all())
    assert "not good any more" in follow(link)[0].content.decode(), "a link is good once"


def test_an_unknown_address_gets_the_same_answer_and_no_mail(ann, acme, broker):
    ProviderFactory(tenant=acme)
    gone = UserFactory(tenant=acme, is_active=False)
    pages = [
        re.sub(r'value="\w{64}"', "", ask(one).content.decode()) for one in (ann.email, "no@no.example", gone.email)
    ]
    assert TOLD in pages[0]
    assert len({len(page) for page in pages}) == 1
    assert len(work(broker)) == 3, "nor does the time it takes tell"
    assert [letter.recipients[0] for letter in mailed()] == [ann.email]


def test_an_address_gets_three_links_an_hour_and_a_client_asks_for_twenty(ann, acme, broker, settings):
    for _ in range(5):
        assert TOLD in ask().content.decode()
    assert len(rung(broker)) == 3
    for number in range(20):
        ask(f"x{number}@acme.example")
    assert len(rung(broker)) == 15
    ask("other@acme.example", REMOTE_ADDR="192.0.2.9")
    assert len(rung(broker)) == 1
    settings.SHARED_STATE_URL = "redis://127.0.0.1:1/0"
    assert [asking.may_ask(ann.email, "192.0.2.1") for _ in range(4)] == [True, True, True, False]


def test_a_link_grows_old_and_ends_with_a_sign_in_another_address_or_the_right_to_sign_in(ann, settings, monkeypatch):
    def good(link):
        query = dict(part.split("=") for part in urlsplit(link).query.split("&"))
        return password_links.owner_of(query["user"], query["token"]) == ann

    for purpose, name in (("reset", "PASSWORD_RESET_TIMEOUT"), ("invitation", "INVITATION_MAX_AGE")):
        made = datetime.now()
        tokens_of = password_links._TOKENS[password_links.Purpose(purpose)]
        link = password_links.link(ann, password_links.Purpose(purpose), "https://x.example")
        assert good(link)
        assert not good(link[:-1])
        seconds = getattr(settings, name)
        monkeypatch.setattr(tokens_of, "_now", lambda at=made, age=seconds: at + timedelta(seconds=age + 2))
        assert not good(link)
        monkeypatch.undo()
        for change in ({"email": "new@acme.example"}, {"is_active": False}, {"last_login": made.astimezone()}):
            before = {field: getattr(ann, field) for field in change}
            User.objects.filter(pk=ann.pk).update(**change)
            assert not good(link), change
            User.objects.filter(pk=ann.pk).update(**before)
        assert good(link)
    for user_id, token in (("", ""), ("x", "y"), (str(uuid.uuid4()), "a-b"), (str(ann.pk), "\0")):
        assert password_links.owner_of(user_id, token) is None


def test_the_link_begins_with_the_address_the_settings_say_and_with_no_host_that_is_not_ours(
    ann, acme, broker, settings
):
    ProviderFactory(tenant=acme)
    assert Client().post(ASK, {"email": ann.email}, headers={"host": "evil.example"}).status_code == 400
    settings.WEB_PUBLIC_URL = "https://mail.acme.example"
    ask()
    work(broker)
    assert link_in(mailed()[0]).startswith("https://mail.acme.example/admin/password/set/")


def test_a_link_works_in_a_browser_where_somebody_of_another_tenant_is_signed_in(ann, globex):
    browser = Client()
    browser.force_login(UserFactory(tenant=globex))
    _, answer = follow(password_links.link(ann, password_links.Purpose.RESET, "http://testserver"), browser)
    assert answer.status_code == 302
    assert User.objects.get(pk=ann.pk).check_password(NEW)
    assert AuditEntry.objects.get(action="user.password_reset").tenant_id == ann.tenant_id


# --- Through which provider ---------------------------------------------------------------------------------------
def test_the_tenants_default_provider_carries_it_then_a_shared_one_and_for_owners_the_shared_one_first(acme, operator):
    from delivery.password_mail import providers_for

    own = [ProviderFactory(tenant=acme, name=f"own {rank}", default_rank=rank) for rank in (2, 1)]
    shared = ProviderFactory(tenant=None, name="shared")
    ProviderFactory(tenant=acme, enabled=False)
    ProviderFactory(tenant=acme, default_rank=None)
    ProviderFactory()
    assert providers_for(UserFactory(tenant=acme, role="user")) == [own[1], own[0], shared]
    assert providers_for(UserFactory(tenant=acme, role="owner")) == [shared, own[1], own[0]]
    assert providers_for(operator) == [shared]


def test_what_one_provider_refuses_the_next_takes_and_what_all_refuse_is_told_without_the_link(ann, acme, broker):
    ProviderFactory(tenant=acme, default_rank=1)
    ProviderFactory(tenant=acme, default_rank=2)
    answers = MemoryBackend.box().answers
    answers.append(PermanentFailure("no", code="refused"))
    ask()
    work(broker)
    assert len(mailed()) == 1
    answers.extend(PermanentFailure(f"no: {NEW}", code="refused") for _ in range(2))
    ask()
    with capture_logs() as logs:
        work(broker)
    assert actions()[-1] == "user.password_link_not_sent"
    assert [line["log_level"] for line in logs if line["event"] == "link to choose a password not sent"] == ["error"]
    assert NEW not in str(logs), "what a provider says may quote the letter"


def test_the_sender_is_the_one_for_all_or_in_a_domain_the_tenant_sends_from(ann, acme, operator, settings):
    from delivery.password_mail import sender_for

    assert sender_for(ann) == f"no-reply@{settings.SMTP['HOSTNAME']}"
    AccountFactory(tenant=acme, allowed_senders=["*.acme.example", "acme.example"])
    assert sender_for(ann) == "no-reply@acme.example"
    assert sender_for(operator) == f"no-reply@{settings.SMTP['HOSTNAME']}"
    settings.NOTICE_FROM = "notices@platform.example"
    assert sender_for(ann) == "notices@platform.example"


@pytest.mark.parametrize("payload", [("x", "reset", ""), (str(uuid.uuid4()), "other", ""), (7, "reset", "")])
def test_an_unknown_payload_is_dropped(payload):
    tasks.password_link(*payload)
    assert mailed() == []


# --- Invitations --------------------------------------------------------------------------------------------------
ADD = "/admin/accounts/user/add/"
PERSON = {"email": "New@acme.example", "name": "New", "role": "user", "password1": "", "password2": ""}


def test_a_person_made_without_a_password_is_invited_and_invited_again(
    client, acme, broker, django_capture_on_commit_callbacks
):
    ProviderFactory(tenant=acme)
    client.force_login(UserFactory(tenant=acme, role="owner"))
    with django_capture_on_commit_callbacks(execute=True):
        page = client.post(ADD, PERSON, follow=True).content.decode()
    assert "An invitation is on its way to new@acme.example" in page
    person = User.objects.get(email="new@acme.example")
    assert not person.has_usable_password()
    button = reverse("admin:accounts_user_do", args=[person.pk, "send_invitation"])
    assert button in client.get(reverse("admin:accounts_user_change", args=[person.pk])).content.decode()
    with django_capture_on_commit_callbacks(execute=True):
        client.post(button)
    assert "user.invited" in actions()
    assert [ring[:2] for ring in work(broker)] == [[str(person.pk), "invitation"]] * 2
    _, answer = follow(link_in(mailed()[1]))
    assert answer.status_code == 302
    assert User.objects.get(pk=person.pk).check_password(NEW)
    assert AuditEntry.objects.get(action="user.password_reset").changes == {"invited": True}
    assert client.post(button).status_code == 403, "who has a password is not invited"
    assert "not good any more" in follow(link_in(mailed()[0]))[0].content.decode()


def test_one_password_of_two_is_no_invitation(client, acme):
    client.force_login(UserFactory(tenant=acme, role="owner"))
    for one in ("password1", "password2"):
        assert client.post(ADD, {**PERSON, one: NEW}).status_code == 200
    assert not User.objects.filter(email="new@acme.example").exists()


def test_where_no_provider_can_send_the_page_names_the_command_that_makes_the_link(client, acme):
    client.force_login(UserFactory(tenant=acme, role="owner"))
    page = client.post(ADD, PERSON, follow=True).content.decode()
    assert "manage.py resetlink new@acme.example" in page
    person = User.objects.get(email="new@acme.example")
    page = client.post(reverse("admin:accounts_user_do", args=[person.pk, "send_invitation"]), follow=True)
    assert "manage.py resetlink new@acme.example" in page.content.decode()
    assert "user.invited" not in actions()


def test_the_api_invites_whom_it_makes_without_a_password(acme, broker, django_capture_on_commit_callbacks):
    ProviderFactory(tenant=acme)
    client = signed_in(UserFactory(tenant=acme, role="owner"))
    for given in ({"email": "a@acme.example"}, {"email": "b@acme.example", "password": NEW}):
        with django_capture_on_commit_callbacks(execute=True):
            assert client.post("/api/v1/users", {"role": "user", **given}, format="json").status_code == 201
    work(broker)
    assert [letter.recipients[0] for letter in mailed()] == ["a@acme.example"]


def test_the_first_owner_of_a_tenant_is_invited(client, operator, broker, django_capture_on_commit_callbacks):
    ProviderFactory(tenant=None)
    client.force_login(operator)
    days = {"body_days": 7, "dead_letter_days": 30, "row_days": 90, "archive_days": 365}
    form = {"name": "Initech", "slug": "initech", "status": "active", "unknown_outcome": "resend"}
    form |= {"lossless": "special", **days, "owner_email": "peter@initech.example"}
    with django_capture_on_commit_callbacks(execute=True):
        answer = client.post("/admin/accounts/tenant/add/", form)
    assert answer.status_code == 302
    assert Tenant.objects.get().slug == "initech"
    work(broker)
    assert mailed()[0].recipients == ("peter@initech.example",)
    assert not User.objects.get(email="peter@initech.example").has_usable_password()


# --- By hand ------------------------------------------------------------------------------------------------------
def test_a_command_prints_the_link_and_the_audit_knows(ann, settings):
    out = io.StringIO()
    with pytest.raises(CommandError, match="--origin"):
        call_command("resetlink", ann.email, stdout=out)
    for address in ("nobody@acme.example", UserFactory(is_active=False).email):
        with pytest.raises(CommandError):
            call_command("resetlink", address, origin="http://testserver", stdout=out)
    assert out.getvalue() == ""
    call_command("resetlink", "Ann@acme.example", origin="http://testserver/", stdout=out)
    assert actions() == ["user.password_link_made"]
    assert follow(out.getvalue().strip())[1].status_code == 302
    assert User.objects.get(pk=ann.pk).check_password(NEW)


# --- Old sessions -------------------------------------------------------------------------------------------------
def test_sessions_that_were_over_long_ago_are_deleted_once_a_day(ann):
    from django.utils import timezone

    old, kept = [
        UserSession.objects.create(
            user=ann, kind="api", last_used_at=timezone.now(), expires_at=timezone.now() - timedelta(days=days)
        )
        for days in (31, 29)
    ]
    assert old_sessions.CHORE in chores.CHORES.values()
    assert old_sessions.CHORE.due()
    assert not old_sessions.CHORE.due()
    old_sessions.CHORE.run(chores.Turn())
    assert list(UserSession.objects.all()) == [kept]
    assert old.pk != kept.pk
