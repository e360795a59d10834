"""What is in a message, for who may read bodies: ADM-2, ADM-4, SEC-1, SEC-2, MIM-3."""

import time
from io import BytesIO

import pytest
from django.contrib import admin
from django.template import Context
from django.template.loader import get_template
from django.template.loader_tags import BlockNode
from django.urls import reverse
from django.utils import timezone

from accounts.models import AuditEntry
from accounts.tests.factories import UserFactory
from delivery import contents, safe_html, store
from delivery.contents_admin import ContentsPage, HtmlFrame
from delivery.tests.factories import MessageFactory
from delivery.tests.mail import accepted, raw_message
from delivery.tests.mime_samples import FILES, leaf, message, multipart, needs_corpus

pytestmark = pytest.mark.django_db(transaction=True)

HTML = """<p onclick="x()">Hello <b>Joe</b><img src="cid:logo"></p><script>x()</script>
<img src="https://spy.example/pixel.gif">"""
LETTER = message(
    multipart(
        "mixed",
        multipart(
            "related",
            leaf("text/html; charset=utf-8", HTML),
            leaf("image/png", b"PNG", "Content-ID: <logo>", 'Content-Disposition: inline; filename="logo.png"'),
            boundary="inner",
        ),
        leaf("text/html", "<script>steal()</script>", 'Content-Disposition: attachment; filename="page.html"'),
    )
)


@pytest.fixture
def reader(client, acme):
    person = UserFactory(tenant=acme, role="owner", email="olga@acme.example", reads_bodies=True)
    client.force_login(person)
    return person


@pytest.fixture
def letter(acme_account, broker):
    return accepted(acme_account, LETTER)


def page(row, kind):
    return reverse("admin:delivery_message_contents", args=[row.pk, kind])


def frame(row):
    return reverse("admin:delivery_message_html", args=[row.pk])


def everything(row):
    return [
        *(page(row, kind) for kind in contents.KINDS),
        frame(row),
        reverse("admin:delivery_message_download", args=[row.pk]),
        reverse("admin:delivery_message_attachment", args=[row.pk, 1]),
    ]


def looks():
    return [entry.changes.get("part", "all") for entry in AuditEntry.objects.filter(action="message.body_viewed")]


@pytest.mark.parametrize(("role", "reads"), [("owner", False), ("admin", False), ("user", True), ("viewer", True)])
def test_without_the_permission_nothing_is_offered_and_nothing_is_given(client, acme, letter, role, reads):
    client.force_login(UserFactory(tenant=acme, role=role, reads_bodies=reads))
    assert {client.get(url).status_code for url in everything(letter)} == {403}
    offered = client.get(reverse("admin:delivery_message_change", args=[letter.pk])).content.decode()
    assert "/contents/" not in offered
    assert looks() == []


def test_a_message_of_another_tenant_is_not_there(client, globex, letter):
    client.force_login(UserFactory(tenant=globex, role="owner", reads_bodies=True))
    assert {client.get(url).status_code for url in everything(letter)} == {404}
    assert looks() == []


def test_each_look_leaves_one_audit_row_and_the_page_around_the_html_none(client, reader, letter):
    offered = client.get(reverse("admin:delivery_message_change", args=[letter.pk])).content.decode()
    assert all(page(letter, kind) in offered for kind in contents.KINDS)
    for url in everything(letter):
        assert client.get(url).status_code == 200, url
    assert sorted(looks()) == sorted(["headers", "text", "html", "attachments", "source", "all", "attachment 1"])
    entry = AuditEntry.objects.filter(action="message.body_viewed").first()
    assert (entry.actor, entry.target_id, entry.tenant) == (reader, str(letter.pk), letter.tenant)


def test_the_html_is_framed_where_nothing_of_it_can_run_or_be_fetched(client, reader, letter):
    around = client.get(page(letter, "html")).content.decode()
    assert 'sandbox=""' in around
    assert "Hello" not in around
    answer = client.get(frame(letter))
    policy = answer["Content-Security-Policy"]
    assert {part.strip() for part in policy.split(";")} == {
        "sandbox",
        "default-src 'none'",
        "style-src 'unsafe-inline'",
        "img-src data:",
        "form-action 'none'",
        "base-uri 'none'",
        "frame-ancestors 'self'",
    }
    assert answer["X-Frame-Options"] == "SAMEORIGIN"
    shown = answer.content.decode()
    assert "Hello <b>Joe</b>" in shown
    assert 'src="data:image/png;base64,UE5H"' in shown
    assert "1 reference to remote content is blocked" in shown
    assert not [bad for bad in ("<script", "onclick", "x()") if bad in shown]


def test_an_attachment_is_a_download_that_no_browser_shows(client, reader, letter):
    listed = client.get(page(letter, "attachments")).content.decode()
    numbers = [url for url in everything(letter) if url.endswith("/1/")]
    assert numbers[0] in listed
    url = reverse("admin:delivery_message_attachment", args=[letter.pk, 2])
    answer = client.get(url)
    assert answer.content == b"<script>steal()</script>"
    assert answer["Content-Type"] == "application/octet-stream"
    assert answer["Content-Disposition"].startswith("attachment")
    assert answer["X-Content-Type-Options"] == "nosniff"
    assert client.get(url.replace("/2/", "/3/")).status_code == 404
    assert client.get(url.replace("/2/", "/0/")).status_code == 404


def test_the_source_is_shown_as_text_to_its_bound_and_downloaded_whole(client, reader, acme_account, broker):
    raw = raw_message(body="<script>alert(1)</script>\r\n" * 10_000)
    row = accepted(acme_account, raw)
    shown = client.get(page(row, "source")).content.decode()
    assert "<script>alert" not in shown
    assert "&lt;script&gt;alert(1)" in shown
    assert "These are the first 64 KB" in shown
    assert len(shown) < 4 * contents.MOST_SOURCE
    whole = client.get(reverse("admin:delivery_message_download", args=[row.pk]))
    assert b"".join(whole.streaming_content) == raw
    assert whole["Content-Disposition"] == f'attachment; filename="{row.pk}.eml"'


def test_a_body_that_was_deleted_is_explained(client, reader, acme_account):
    gone = MessageFactory(account=acme_account, body_deleted_at=timezone.now())
    missing = MessageFactory(account=acme_account)
    for row, told in ((gone, "deleted when its days were over"), (missing, "not in the store")):
        for url in everything(row):
            answer = client.get(url)
            assert answer.status_code == 410, url
            assert told in answer.content.decode()
    assert looks() == []


def test_a_kind_nobody_knows_is_not_there(client, reader, letter):
    assert client.get(page(letter, "soul")).status_code == 404


@pytest.mark.parametrize(
    "html",
    [
        "<script>alert(1)</script>hi",
        "<img src=x onerror=alert(1)>hi",
        "<iframe src='https://evil.example'></iframe>hi",
        "<meta http-equiv=refresh content='0;url=https://evil.example'>hi",
        "<form action='https://evil.example'><input name=password></form>hi",
        "<svg><style><img src=x onerror=alert(1)></style></svg>hi",
        "<a href='javascript:alert(1)'>hi</a>",
        "<base href='https://evil.example'><link rel=stylesheet href='//evil.example/x.css'>hi",
    ],
)
def test_hostile_html_loses_what_is_hostile_and_keeps_its_words(html):
    clean = safe_html.clean(html)
    assert "hi" in clean
    for bad in ("<script", "onerror", "<iframe", "<meta", "<form", "<input", "javascript:", "<base", "<link", "<svg"):
        assert bad not in clean.lower()


@pytest.mark.parametrize(
    "html", ["<div>" * 200_000, "<b></p>" * 60_000, "<div>" * 90_000], ids=["large", "tangled", "deep"]
)
def test_html_nobody_can_read_in_time_is_shown_as_its_source(client, reader, acme_account, broker, html):
    row = accepted(acme_account, message(leaf("text/html", html)))
    begun = time.monotonic()
    shown = client.get(frame(row)).content.decode()
    assert time.monotonic() - begun < 4 * safe_html.MOST_SECONDS
    assert "too large or too tangled" in shown
    assert html[:6].replace("<", "&lt;").replace(">", "&gt;") in shown
    assert html[:6] not in shown


@needs_corpus
def test_every_real_message_is_shown_and_nothing_of_it_runs(reader, acme_account, rf, monkeypatch):
    """One row, whose body is each message in turn. What pages have around their contents is left out."""
    row = MessageFactory(account=acme_account)
    monkeypatch.setattr(admin.site, "each_context", lambda _: {})
    template = get_template("admin/delivery/message/contents.html").template
    [block] = [node for node in template.nodelist.get_nodes_by_type(BlockNode) if node.name == "page"]
    request = rf.get("/")
    request.user = reader
    for file in FILES:
        body = file.read_bytes()
        monkeypatch.setattr(store, "open", lambda _, body=body: BytesIO(body))
        for kind in contents.KINDS:
            answer = ContentsPage.as_view()(request, key=row.pk, kind=kind)
            assert answer.status_code == 200, (file.name, kind)
            context = Context(answer.context_data)
            with context.bind_template(template):
                assert "<script" not in block.render(context).lower(), (file.name, kind)
        framed = HtmlFrame.as_view()(request, key=row.pk)
        assert framed.status_code == 200, file.name
        assert b"<script" not in framed.content.lower(), file.name
