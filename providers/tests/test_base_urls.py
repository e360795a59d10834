"""The base URL as people write it: with the API's own path or without, with a slash at its end or without (PRV-1)."""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from providers import registry
from providers.backends.msgraph.token import login_url
from providers.exceptions import ProviderError
from providers.tests.messages import letter, outbound

PAGE = Path(__file__).parents[2] / "docs" / "providers.md"
KEYS = {
    "mailgun": {"api_key": "k", "domain": "mg.acme.test"},
    "mailjet": {"api_key": "k", "secret_key": "s"},
    "mailersend": {"api_token": "k"},
    "mailtrap": {"api_token": "k"},
    "postmark": {"server_token": "k"},
    "scaleway": {"secret_key": "k", "project_id": "p"},
    "ses": {"region": "eu-central-1", "access_key_id": "k", "secret_access_key": "s"},
    "msgraph": {"tenant_id": "acme.test", "client_id": "c", "client_secret": "s", "mailbox": "shop@acme.test"},
}
REGION = "/transactional-email/v1alpha1/regions"
PATHS = {
    "sendgrid": (("", "/v3"), "/v3/mail/send", "/v3/scopes"),
    "brevo": (("", "/v3"), "/v3/smtp/email", "/v3/account"),
    "mailjet": (("", "/v3", "/v3.1"), "/v3.1/send", "/v3/REST/sender?Limit=1000"),
    "mailersend": (("", "/v1"), "/v1/email", "/v1/api-quota"),
    "mandrill": (("", "/api/1.0"), "/api/1.0/messages/send.json", "/api/1.0/users/ping2.json"),
    "mailtrap": (("", "/api"), "/api/send", "/api/send"),
    "sparkpost": (("", "/api/v1"), "/api/v1/transmissions", "/api/v1/account"),
    "postal": (("", "/api/v1"), "/api/v1/send/message", "/api/v1/messages/message"),
    "postmark": (("",), "/email", "/server"),
    "resend": (("",), "/emails", "/domains"),
    "ses": (("", "/v2/email"), "/v2/email/outbound-emails", "/v2/email/account"),
    "scaleway": (
        ("", REGION.removesuffix("/regions") + "/regions/fr-par"),
        f"{REGION}/fr-par/emails",
        f"{REGION}/fr-par/domains?project_id=p",
    ),
    "mailgun": (
        ("", "/v3", "/v4", "/v3/mg.acme.test"),
        "/v3/mg.acme.test/messages.mime",
        "/v4/domains/mg.acme.test",
    ),
    "msgraph": (
        ("", "/v1.0"),
        "/v1.0/users/shop@acme.test/sendMail",
        "/v1.0/users/shop@acme.test/messages?$top=1&$select=id",
    ),
}


class Listener(ThreadingHTTPServer):
    """Writes down which paths are asked for; gives a token to whoever asks, and says nothing else."""

    def __init__(self):
        self.paths = []
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        token = self.path.endswith("/acme.test/oauth2/v2.0/token")
        body = b'{"access_token": "t", "token_type": "Bearer", "expires_in": "3599"}' if token else b"{}"
        if not token:
            self.server.paths.append(self.path)
        self.send_response(200 if token else 500)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_GET

    def log_message(self, *args):
        pass


@pytest.fixture
def listener():
    with Listener() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.mark.parametrize(
    ("type_", "written"), [(type_, path + end) for type_, row in PATHS.items() for path in row[0] for end in ("", "/")]
)
@pytest.mark.parametrize("below", ["", "/proxy"])
def test_a_base_url_may_name_the_path_of_the_api_or_leave_it_out(listener, type_, written, below):
    _, sending, asking = PATHS[type_]
    config = {"base_url": listener.url + below + written, **KEYS.get(type_, {"api_key": "k"})}
    if type_ == "msgraph":
        config["login_url"] = listener.url
    backend = registry.connect(type_, config, 5, shared=True)
    message = letter()
    message.set_content("Thank you for your order.\n")
    for call in (lambda: backend.send(outbound(message)), backend.check_connection):
        with pytest.raises(ProviderError):
            call()
    backend.close()
    assert listener.paths == [below + sending, below + asking]


@pytest.mark.parametrize("type_", [*PATHS, "smtp"])
def test_the_page_names_what_a_row_needs(type_):
    table = PAGE.read_text().partition("The settings that a row needs")[2].partition("Every HTTP type")[0]
    [needed] = [
        line.split("|")[2] for line in table.splitlines() if f"`{type_}`" in line.partition("|")[2].partition("|")[0]
    ]
    for field in registry.backend_class(type_).config_fields:
        assert not field.required or f"`{field.name}`" in needed


def test_the_region_of_scaleway_stays_as_it_is_written(listener):
    config = {**KEYS["scaleway"], "base_url": f"{listener.url}{REGION}/nl-ams/"}
    with pytest.raises(ProviderError):
        registry.connect("scaleway", config, 5).check_connection()
    assert listener.paths == [f"{REGION}/nl-ams/domains?project_id=p"]


@pytest.mark.parametrize(
    ("configured", "base_url", "expected"),
    [
        ("", "https://graph.microsoft.com/v1.0", "https://login.microsoftonline.com"),
        ("", "https://graph.microsoft.us/v1.0", "https://login.microsoftonline.us"),
        ("", "https://dod-graph.microsoft.us/beta", "https://login.microsoftonline.us"),
        ("", "https://microsoftgraph.chinacloudapi.cn/v1.0", "https://login.chinacloudapi.cn"),
        ("", "http://graph.acme.test:8080/v1.0", "http://graph.acme.test:8080"),
        ("https://login.microsoftonline.us/", "https://graph.acme.test", "https://login.microsoftonline.us"),
        ("https://login.acme.test/acme.test", "https://graph.acme.test", "https://login.acme.test"),
        ("https://login.acme.test/acme.test/oauth2/v2.0/token", "https://x.test", "https://login.acme.test"),
    ],
)
def test_one_signs_in_where_the_cloud_has_its_door(configured, base_url, expected):
    """https://learn.microsoft.com/en-us/graph/deployments"""
    assert login_url(configured, base_url, "acme.test") == expected


def test_a_graph_of_ones_own_is_signed_in_to_at_the_same_host(listener):
    backend = registry.connect("msgraph", {**KEYS["msgraph"], "base_url": listener.url}, 5)
    with pytest.raises(ProviderError) as caught:
        backend.check_connection()
    assert caught.value.status_code == 500
    assert listener.paths == [PATHS["msgraph"][2]]
