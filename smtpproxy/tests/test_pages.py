"""The pages of the web beside the admin: whoever gets lost finds a way there."""

import pytest
from django.core.exceptions import PermissionDenied, SuspiciousOperation
from django.http import Http404
from django.test import Client
from django.urls import path

from smtpproxy import urls


def _raising(error):
    def view(request):
        raise error

    return view


urlpatterns = [
    path("400", _raising(SuspiciousOperation("hunter2"))),
    path("403", _raising(PermissionDenied("hunter2"))),
    path("404", _raising(Http404("hunter2"))),
    path("500", _raising(RuntimeError("hunter2"))),
    *urls.urlpatterns,
]


def test_the_front_page_leads_to_the_admin(client):
    response = client.get("/")
    assert (response.status_code, response["Location"]) == (302, "/admin/")


def test_browsers_that_ask_for_an_icon_get_none_and_no_error(client):
    response = client.get("/favicon.ico")
    assert (response.status_code, response.content) == (204, b"")


@pytest.mark.urls(__name__)
@pytest.mark.parametrize("status", [400, 403, 404, 500])
def test_an_error_page_leads_to_the_admin_and_tells_nothing(status):
    response = Client(raise_request_exception=False).get(f"/{status}")
    assert response.status_code == status
    assert '<a href="/admin/">' in response.text
    assert '<link rel="stylesheet"' in response.text
    assert "<style" not in response.text
    assert "hunter2" not in response.text


@pytest.mark.urls(__name__)
def test_a_form_of_another_site_gets_a_page_that_leads_to_the_admin():
    response = Client(enforce_csrf_checks=True).post("/404")
    assert response.status_code == 403
    assert '<a href="/admin/">' in response.text
