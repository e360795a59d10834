"""The API describes itself: API-5."""

import json

import pytest
from django.core.management import call_command
from rest_framework.test import APIClient

pytestmark = pytest.mark.django_db


@pytest.fixture(scope="module")
def schema(tmp_path_factory):
    """Made without a warning, and valid."""
    file = tmp_path_factory.mktemp("schema") / "schema.json"
    call_command("spectacular", validate=True, fail_on_warn=True, format="openapi-json", file=str(file))
    return json.loads(file.read_text())


def operations(schema):
    for path, methods in schema["paths"].items():
        for method, operation in methods.items():
            yield f"{method} {path}", operation


def test_every_operation_says_how_it_fails_and_who_may_call(schema):
    for name, operation in operations(schema):
        for status in ("400", "401", "403", "429", "503", *(["404"] if "{" in name else [])):
            answer = operation["responses"][status]
            assert answer["content"]["application/json"]["schema"] == {"$ref": "#/components/schemas/Error"}, name
        public = name.split(" ")[1].rstrip("/") in ("/api/v1/auth/login", "/api/v1/auth/refresh")
        assert operation.get("security", [{}]) == ([{}] if public else [{"bearer": []}]), name


def test_no_secret_is_in_an_answer_but_the_one_that_makes_it(schema):
    for name, component in schema["components"]["schemas"].items():
        told = set(component.get("properties", {})) & {"password_hash", "key_hash", "token_hash"}
        assert not told, name
    assert "password" not in schema["components"]["schemas"]["User"]["properties"]
    assert "password" not in schema["components"]["schemas"]["Account"]["properties"]


def test_the_docs_load_nothing_from_elsewhere_and_hold_no_script():
    page = APIClient().get("/api/v1/docs/").content.decode()
    assert "https://" not in page
    assert page.count("<script") == page.count("<script src=") == 3
    script = APIClient().get("/api/v1/docs/?script=")
    assert script.headers["Content-Type"].startswith("application/javascript")
    assert APIClient().get("/api/v1/schema/").status_code == 200


def test_making_the_schema_counts_as_one_request(settings):
    settings.API_REQUESTS_PER_MINUTE = 2
    assert [APIClient().get("/api/v1/schema/").status_code for _ in range(3)] == [200, 200, 429]
