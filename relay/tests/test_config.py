"""The listener's settings in typed form, and what cannot be together."""

from ipaddress import ip_network

import pytest
from django.core.exceptions import ImproperlyConfigured

from relay.config import Config, within
from relay.tests.listening import config


@pytest.mark.parametrize("hostname", ["mx.acme.example", "localhost", "a", "[192.0.2.1]", "xn--bcher-kva.example"])
def test_host_names(hostname):
    assert Config.from_settings(config(hostname=hostname)).hostname == hostname


@pytest.mark.parametrize("hostname", ["", "bücher.example", "two words", "mx.acme.example\r\n250 ok", "-x", "x."])
def test_what_is_no_host_name_is_refused(hostname):
    with pytest.raises(ImproperlyConfigured, match="SMTP_HOSTNAME"):
        Config.from_settings(config(hostname=hostname))


def test_networks_are_parsed_and_asked():
    made = Config.from_settings(config(limit_exempt_networks=["10.0.0.0/8", "2001:db8::/32"]))
    assert made.limit_exempt_networks == (ip_network("10.0.0.0/8"), ip_network("2001:db8::/32"))
    assert within("10.9.9.9", made.limit_exempt_networks)
    assert within("2001:db8::1", made.limit_exempt_networks)
    assert not within("11.0.0.1", made.limit_exempt_networks)
    assert not within("10.9.9.9", ())
