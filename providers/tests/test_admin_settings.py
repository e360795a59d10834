"""What a provider's settings may be, as the people who enter them are told: ADM-2, PRV-12, SEC-7."""

import pytest
import trustme

from accounts.tests.factories import UserFactory
from providers.models import Provider
from providers.tests.factories import ProviderFactory
from providers.tests.test_admin import ADD, page_of, smtp

pytestmark = pytest.mark.django_db
LOCAL = "Private and local addresses are the platform operator&#x27;s to use."

EHLO = "must be a host name, or an address in brackets such as [192.0.2.1]"
LOGIN = "a user name and password need starttls or tls"
PEM = "must be certificates as PEM text"


@pytest.fixture
def admin(client, acme):
    person = UserFactory(tenant=acme, role="admin")
    client.force_login(person)
    return person


def errors(answer):
    assert answer.status_code == 200
    return {name: list(texts) for name, texts in answer.context["adminform"].form.errors.items()}


@pytest.mark.parametrize(
    ("wrong", "texts"),
    [
        ({"config_port": "0"}, {"config_port": ["Ensure this value is greater than or equal to 1."]}),
        ({"config_port": "99999"}, {"config_port": ["Ensure this value is less than or equal to 65535."]}),
        ({"config_data_timeout": "0"}, {"config_data_timeout": ["Ensure this value is greater than or equal to 30."]}),
        ({"config_idle_seconds": "-1"}, {"config_idle_seconds": ["Ensure this value is greater than or equal to 0."]}),
        ({"config_host": ""}, {"config_host": ["This field is required."]}),
        (
            {"config_host": "a" * 64 + ".example"},
            {"config_host": ["Host: must be a host name or an IP address, without a port."]},
        ),
        (
            {"config_host": "mx.example:25"},
            {"config_host": ["Host: must be a host name or an IP address, without a port."]},
        ),
        (
            {"config_ehlo_name": "a b"},
            {"config_ehlo_name": [f"Name for EHLO: {EHLO}."]},
        ),
        ({"config_username": ""}, {"config_username": ["User name: required with a password."]}),
        (
            {"config_security": "none"},
            {"config_security": [f"Security: {LOGIN}."]},
        ),
        (
            {"config_ca_certificate": "x"},
            {"config_ca_certificate": [f"CA certificate: {PEM}."]},
        ),
    ],
)
def test_an_error_is_told_once_at_its_field(client, admin, wrong, texts):
    assert errors(client.post(ADD + "?type=smtp", smtp(**wrong))) == texts
    assert not Provider.objects.exists()


@pytest.mark.parametrize("url", ["http://[::1", "https://x.test:99999", "https://a b", "nonsense"])
def test_a_base_url_that_is_none_is_a_form_error(client, admin, url):
    form = {"name": "s", "enabled": "on", "config_api_key": "SG.key", "config_base_url": url}
    assert errors(client.post(ADD + "?type=sendgrid", form)) == {
        "config_base_url": ["Base URL: must look like https://api.example.com."]
    }


@pytest.mark.parametrize("schedule", ["0", "2592001", "\n".join(["1"] * 51), "9" * 5000])
def test_a_retry_schedule_has_bounds_that_the_page_names(client, admin, schedule):
    assert "1 to 2,592,000 (30 days), at most 50" in client.get(ADD + "?type=smtp").content.decode()
    assert "retry_schedule" in errors(client.post(ADD + "?type=smtp", smtp(retry_schedule=schedule)))
    client.post(ADD + "?type=smtp", smtp(retry_schedule="1\n2592000"))
    assert Provider.objects.get().retry_schedule == [1, 2592000]


def test_a_certificate_is_pasted_and_kept_as_it_was(client, admin):
    pem = trustme.CA().cert_pem.bytes().decode().strip()
    client.post(ADD + "?type=smtp", smtp(config_ca_certificate=pem.replace("\n", "\r\n")))
    provider = Provider.objects.get()
    assert provider.config["ca_certificate"] == pem
    # Nothing has changed, so the password that is stored stays.
    form = smtp(config_ca_certificate=pem.replace("\n", "\r\n"), config_password="", name="renamed")
    assert client.post(page_of(provider), form).status_code == 302


def test_no_type_that_tenants_may_add_takes_a_path_of_the_server(client, admin):
    page = client.get(ADD + "?type=smtp").content.decode()
    assert "ca_file" not in page
    assert '<textarea name="config_ca_certificate"' in page


@pytest.mark.parametrize("host", ["127.0.0.1", "10.0.0.1", "::1", "localhost", "redis", "169.254.169.254", "[::1]"])
def test_tenant_people_enter_no_private_address(client, admin, host):
    answer = client.post(ADD + "?type=smtp", smtp(config_host=host))
    assert list(errors(answer)) == ["config_host"]
    url = f"http://{f'[{host}]' if host == '::1' else host}:8080"
    form = {"name": "s", "enabled": "on", "config_api_key": "SG.key", "config_base_url": url}
    answer = client.post(ADD + "?type=sendgrid", form)
    assert LOCAL in answer.content.decode()
    assert not Provider.objects.exists()


def test_tenant_people_enter_no_private_address_to_sign_in_at(client, admin):
    form = {"name": "g", "enabled": "on", "config_tenant_id": "acme.test", "config_client_id": "c"}
    form |= {"config_client_secret": "s", "config_login_url": "http://169.254.169.254"}
    answer = client.post(ADD + "?type=msgraph", form)
    assert list(errors(answer)) == ["config_login_url"]
    assert not Provider.objects.exists()


def test_operators_enter_private_addresses_and_tenants_where_they_may(client, admin, operator, acme, settings):
    settings.PROVIDER_PRIVATE_NETWORKS = True
    assert client.post(ADD + "?type=smtp", smtp(config_host="10.0.0.1")).status_code == 302
    settings.PROVIDER_PRIVATE_NETWORKS = False
    client.force_login(operator)
    form = smtp(config_host="10.0.0.2", name="by the operator", tenant=str(acme.pk))
    assert client.post(ADD + "?type=smtp", form).status_code == 302
    assert {provider.config["host"] for provider in Provider.objects.all()} == {"10.0.0.1", "10.0.0.2"}


def test_tenant_people_may_rename_what_an_operator_pointed_inside_and_no_more(client, admin, acme):
    config = {"host": "10.0.0.1", "port": 587, "username": "acme", "password": "secret"}
    provider = ProviderFactory(tenant=acme, type="smtp", config=config)
    assert client.post(page_of(provider), smtp(config_host="10.0.0.1", name="renamed")).status_code == 302
    answer = client.post(page_of(provider), smtp(config_host="10.0.0.1", config_port="6379"))
    assert LOCAL in answer.content.decode()
    assert Provider.objects.get().config["port"] == 587
