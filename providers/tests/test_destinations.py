"""Hosts and base URLs as people enter them: which lead to a private network for sure (SEC-7)."""

import pytest

from providers import destinations


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "10.1.2.3",
        "192.168.0.1",
        "172.16.0.1",
        "169.254.169.254",
        "100.64.0.1",
        "0.0.0.0",
        "224.0.0.1",
        "::1",
        "::",
        "::ffff:127.0.0.1",
        "fd00::1",
        "fe80::1",
        "localhost",
        "LOCALHOST.",
        "mail.localhost",
        "localhost.localdomain",
        "postgres",
        "printer.local",
        "metadata.internal",
        "127。0。0。1",
        "ⓛocalhost",
    ],
)
def test_a_private_host_is_known(host):
    assert destinations.is_private(host)
    assert destinations.private_settings({"host": host}) == ["host"]


@pytest.mark.parametrize("host", ["smtp.example.com", "8.8.8.8", "2606:4700:4700::1111", "bücher.example"])
def test_a_public_host_is_left_alone(host):
    assert not destinations.is_private(host)
    assert destinations.private_settings({"host": host}) == []


@pytest.mark.parametrize(
    ("url", "private"),
    [
        ("https://api.example.com/v3", False),
        ("http://127.0.0.1:8000", True),
        ("http://[::1]:8000/", True),
        ("http://LocalHost", True),
        ("http://redis:6379", True),
        ("", False),
    ],
)
def test_a_base_url_leads_where_its_host_is(url, private):
    assert destinations.private_settings({"base_url": url}) == (["base_url"] if private else [])


@pytest.mark.parametrize(
    ("host", "loopback"),
    [("127.0.0.1", True), ("127.9.9.9", True), ("::1", True), ("localhost", True), ("10.0.0.1", False), ("mx", False)],
)
def test_loopback_is_this_machine_only(host, loopback):
    assert destinations.is_loopback(destinations.host(host)) is loopback
