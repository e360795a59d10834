"""What browsers are told with every answer (SEC-9)."""

import re

import pytest
from django.urls import reverse

pytestmark = pytest.mark.django_db


def policy(response):
    return dict(part.strip().partition(" ")[::2] for part in response["Content-Security-Policy"].split(";"))


@pytest.mark.parametrize("address", ["/", "/nowhere", "/healthz", "/api/v1/schema/", "/admin/login/", "/favicon.ico"])
def test_every_answer_has_the_headers_that_keep_others_out(client, address):
    response = client.get(address)
    told = policy(response)
    assert (told["default-src"], told["base-uri"], told["frame-ancestors"]) == ("'none'", "'none'", "'none'")
    assert "'unsafe-inline'" not in told["script-src"]
    assert "camera=()" in response["Permissions-Policy"]


@pytest.mark.parametrize("address", ["/", "/nowhere", "/api/v1/schema/", "/admin/login/"])
def test_answers_of_the_site_are_not_guessed_at_nor_framed_nor_told_to_others(client, address):
    response = client.get(address)
    assert response["X-Content-Type-Options"] == "nosniff"
    assert response["Referrer-Policy"] == "same-origin"
    assert response["X-Frame-Options"] == "DENY"


def test_only_the_admin_may_evaluate_scripts_and_style_in_the_page(client):
    admin, elsewhere = policy(client.get("/admin/login/")), policy(client.get("/nowhere"))
    assert (admin["script-src"], admin["style-src"]) == ("'self' 'unsafe-eval'", "'self' 'unsafe-inline'")
    assert (elsewhere["script-src"], elsewhere["style-src"]) == ("'self'", "'self'")


def test_pages_are_compressed_for_those_who_take_it(client, operator):
    client.force_login(operator)
    page = client.get(reverse("admin:index"), headers={"accept-encoding": "gzip"})
    assert page["Content-Encoding"] == "gzip"


def test_the_pages_of_the_theme_bring_no_script_of_their_own(client, operator):
    client.force_login(operator)
    for name in ("index", "delivery_message_changelist", "accounts_account_add"):
        text = client.get(reverse(f"admin:{name}")).text
        inline = re.findall(r"<script(?![^>]*\bsrc=)(?![^>]*application/json)[^>]*>", text)
        assert not inline, name
        assert not re.search(r"""(?:src|href)=["']https?://""", text), name
