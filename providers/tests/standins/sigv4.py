"""AWS Signature Version 4, checked as the service does.

https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

_AUTHORIZATION = re.compile(
    r"AWS4-HMAC-SHA256 Credential=(?P<key>[^/]+)/(?P<day>\d{8})/(?P<region>[\w-]+)/(?P<service>\w+)/aws4_request, ?"
    r"SignedHeaders=(?P<signed>[\w;-]+), ?Signature=(?P<signature>[0-9a-f]{64})"
)


class BadSignature(Exception):
    """`args[0]` is the name of the error the service answers with, `args[1]` its text."""


def verified(
    method: str, path: str, headers: Mapping[str, str], body: bytes, keys: Mapping[str, str], service: str
) -> tuple[str, str]:
    """The access key ID and the region of a good request. `keys` are secrets by access key ID."""
    match = _AUTHORIZATION.fullmatch(headers.get("Authorization", ""))
    if not match:
        raise BadSignature("MissingAuthenticationTokenException", "Missing Authentication Token")
    if match["key"] not in keys:
        raise BadSignature("UnrecognizedClientException", "The security token included in the request is invalid.")
    names = match["signed"].split(";")
    when = headers.get("X-Amz-Date", "")
    if not {"host", "x-amz-date"} <= set(names) or names != sorted(names):
        raise BadSignature("IncompleteSignatureException", "Authorization header requires signed headers.")
    now = datetime.now(UTC)
    if abs(datetime.strptime(when, "%Y%m%dT%H%M%S%z") - now) > timedelta(minutes=5):
        raise BadSignature("InvalidSignatureException", f"Signature expired: {when} is now earlier than {now}")
    scope = f"{match['day']}/{match['region']}/{match['service']}/aws4_request"
    if not when.startswith(match["day"]) or match["service"] != service:
        raise BadSignature("InvalidSignatureException", f"Credential should be scoped to correct service: {service!r}.")
    canonical = "\n".join(
        [
            method,
            path,
            "",
            *(f"{name}:{' '.join(headers[name].split())}" for name in names),
            "",
            match["signed"],
            hashlib.sha256(body).hexdigest(),
        ]
    )
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    to_sign = f"AWS4-HMAC-SHA256\n{when}\n{scope}\n{digest}"
    key = f"AWS4{keys[match['key']]}".encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    if not hmac.compare_digest(hmac.digest(key, to_sign.encode(), "sha256").hex(), match["signature"]):
        raise BadSignature(
            "SignatureDoesNotMatch",
            "The request signature we calculated does not match the signature you provided. Check your AWS Secret "
            "Access Key and signing method. Consult the service documentation for details.",
        )
    return match["key"], match["region"]
