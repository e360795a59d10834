"""Public keys and topic names as people paste them. Every function raises ValueError with a text for people."""

from __future__ import annotations

import base64
import binascii
import re

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
from cryptography.hazmat.primitives.serialization import load_der_public_key

_ARN = re.compile(r"arn:(aws|aws-cn|aws-us-gov):sns:([a-z0-9-]{3,30}):([0-9]{12}):([A-Za-z0-9_-]{1,256})")


def _load(text: str) -> PublicKeyTypes:
    """A key as PEM, or as the base64 between its lines."""
    body = re.sub(r"-----(BEGIN|END) PUBLIC KEY-----|\s", "", text)
    try:
        return load_der_public_key(base64.b64decode(body, validate=True))
    except (binascii.Error, ValueError, UnsupportedAlgorithm):
        raise ValueError("must be a public key in base64 or PEM") from None


def elliptic(text: str) -> ec.EllipticCurvePublicKey:
    key = _load(text)
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise ValueError("must be an elliptic curve public key")
    return key


def rsa_key(text: str) -> rsa.RSAPublicKey:
    key = _load(text)
    if not isinstance(key, rsa.RSAPublicKey):
        raise ValueError("must be an RSA public key")
    return key


def topics(text: str) -> dict[str, str]:
    """Topic ARN → region."""
    found = {}
    for arn in text.replace(",", " ").split():
        match = _ARN.fullmatch(arn)
        if not match:
            raise ValueError("must be ARNs of SNS topics, such as arn:aws:sns:eu-west-1:123456789012:mail")
        found[arn] = match[2]
    if not found:
        raise ValueError("must name a topic")
    return found
