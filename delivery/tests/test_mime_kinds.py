"""PRV-4: which messages should travel byte for byte."""

import pytest

from delivery.mime import special_kind
from delivery.tests.mime_samples import FILES, leaf, message, multipart


@pytest.mark.parametrize(
    ("raw", "kind"),
    [
        (message(leaf("text/plain")), ""),
        (message(multipart("mixed", leaf("text/plain"), leaf("application/pdf"))), ""),
        (message(multipart("signed", leaf("text/plain"), leaf("application/pgp-signature"))), "signed"),
        (message(multipart("encrypted", leaf("application/pgp-encrypted"))), "encrypted"),
        (message(multipart("report", leaf("text/plain"), leaf("message/delivery-status"))), "report"),
        (message(leaf("Application/PKCS7-Mime; smime-type=enveloped-data")), "encrypted"),
        (message(leaf("application/x-pkcs7-mime")), "encrypted"),
        (message(leaf("text/calendar; method=REQUEST")), "calendar"),
        (
            message(
                multipart(
                    "mixed",
                    multipart("alternative", leaf("text/plain"), leaf("TEXT/Calendar; method=REQUEST"), boundary="in"),
                )
            ),
            "calendar",
        ),
        (message(multipart("mixed", multipart("signed", leaf("text/plain"), boundary="in"))), "signed"),
        (message(leaf("text/plain"), "DKIM-Signature: v=1; a=rsa-sha256; d=acme.example"), "signed"),
        (message(leaf("text/plain"), "dkim-signature : v=1"), "signed"),
        (message(leaf("text/plain", "Hi\r\n-----BEGIN PGP SIGNED MESSAGE-----\r\nx")), "signed"),
        (message(leaf("text/plain", "-----BEGIN PGP MESSAGE-----\r\nx")), "encrypted"),
        # Words about such messages make none.
        (message(leaf("text/plain", "Use multipart/signed and text/calendar.\r\nDKIM-Signature: like this")), ""),
        (message(leaf("text/plain"), "Subject: multipart/signed"), ""),
        # An attached message keeps its bytes everywhere.
        (message(multipart("mixed", leaf("message/rfc822", "Content-Type: multipart/signed\r\n\r\nx"))), ""),
        (message(leaf("application/octet-stream; name=a.asc", "-----BEGIN PGP MESSAGE-----\r\nx")), ""),
        (b"", ""),
        (b"multipart/signed", ""),
    ],
)
def test_a_message_is_known_by_its_parts(raw, kind):
    assert special_kind(raw) == kind


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("mimekit__smime_thunderbird-signed.eml", "signed"),
        ("mimekit__dkim_gmail.eml", "signed"),
        ("mimekit__messages_delivery-status.eml", "report"),
        ("rfc2822_example01.eml", ""),
    ],
)
def test_real_messages_are_known_too(name, kind):
    path = next((path for path in FILES if path.name.endswith(name)), None)
    if path is None:
        pytest.skip("the corpus of real mail is not there")
    assert special_kind(path.read_bytes()) == kind
