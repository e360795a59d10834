"""The Received line (RFC 5321 §4.4): complete, folded, and nothing a client says can break out of it."""

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from hypothesis import given, settings
from hypothesis import strategies as st

from delivery.mime import header_values, received_line

NOW = datetime(2026, 11, 22, 12, 0, 5, tzinfo=UTC)


def line(**changed):
    given_ = {
        "helo": "client.example",
        "client_ip": "192.0.2.7",
        "hostname": "mx.example.net",
        "protocol": "ESMTPSA",
        "message_id": "0192f0c4-7c1e-7000-8000-000000000001",
        "now": NOW,
        **changed,
    }
    return received_line(**given_)


def test_says_who_where_how_and_when():
    assert line(tls_description="TLSv1.3, TLS_AES_256_GCM_SHA384", for_address="bob@globex.example") == (
        b"Received: from client.example ([192.0.2.7]) by mx.example.net with ESMTPSA\r\n"
        b"\t(TLSv1.3, TLS_AES_256_GCM_SHA384) id 0192f0c4-7c1e-7000-8000-000000000001\r\n"
        b"\tfor <bob@globex.example>; Sun, 22 Nov 2026 12:00:05 +0000\r\n"
    )


def test_names_no_recipient_and_no_cipher_when_there_is_none():
    value = line()
    assert b" for " not in value
    assert b"with ESMTPSA" in value
    assert b"id 0192f0c4-7c1e-7000-8000-000000000001;" in value


def test_addresses_are_literals():
    assert b"([IPv6:2001:db8::1])" in line(client_ip="2001:db8::1")
    assert b"(unknown)" in line(client_ip="") + line(client_ip="x) by evil")


def test_the_date_reads_back():
    (value,) = header_values(line(), "received")
    assert parsedate_to_datetime(value.rpartition(";")[2].strip()) == NOW


def test_a_recipient_that_is_no_path_is_left_out():
    assert b"for" not in line(for_address="a b@x.example")
    assert "for <jö@ä.example>;".encode() in line(for_address="jö@ä.example")


@settings(deadline=None)
@given(helo=st.text(), protocol=st.text(), message_id=st.text(), tls=st.text(), recipient=st.text(), ip=st.text())
def test_stays_one_field_whatever_the_client_says(helo, protocol, message_id, tls, recipient, ip):
    value = line(
        helo=helo,
        protocol=protocol,
        message_id=message_id,
        tls_description=tls,
        for_address=recipient,
        client_ip=ip,
    )
    assert value.endswith(b" +0000\r\n")
    assert value.count(b"\r\n\t") == value.count(b"\n") - 1 == value.count(b"\r") - 1
    assert len(header_values(value + b"\r\n", "received")) == 1
    assert b"\x00" not in value
    assert all(len(part) <= 998 for part in value.split(b"\r\n")) or len(recipient) > 200
    assert value.count(b"(") == value.count(b")")


def test_hostile_greetings_are_made_harmless():
    value = line(helo="a\r\nBcc: x@y (\\")
    assert value.startswith(b"Received: from a??Bcc:?x?y??? ([192.0.2.7])")
    assert len(line(helo="a" * 5000).splitlines()[0]) < 300
