"""Requests to Amazon SES, API v2: described, validated and signed by botocore, and sent by our own HTTP client.

botocore's own client is not used: it cannot say whether a request had left in full when its connection broke, and
that decides whether a message may be sent again.
"""

from __future__ import annotations

import functools
import re
import threading
from collections.abc import Mapping
from typing import Any

from botocore.auth import SigV4Auth
from botocore.awsrequest import create_request_object, prepare_request_dict
from botocore.credentials import Credentials
from botocore.exceptions import BotoCoreError, ParamValidationError
from botocore.model import ServiceModel
from botocore.regions import EndpointResolver
from botocore.serialize import create_serializer
from botocore.session import Session

from providers.exceptions import BadSettings, Misconfigured, PermanentFailure, TemporaryFailure
from providers.http import Answer, HttpClient
from providers.scrub import scrub

_REGION = re.compile(r"[a-z]{2,5}(?:-[a-z]{2,12}){1,3}-[0-9]{1,2}")
_WRONG_PARAMETER = re.compile(r"parameter(?: in [\w.]+)?:? \"?([A-Za-z0-9.\[\]]+)")
_lock = threading.Lock()


def region(text: str) -> str:
    """A region's name such as eu-central-1, which becomes part of a host name. Raises ValueError."""
    if not _REGION.fullmatch(text):
        raise ValueError("must be the name of a region, such as eu-central-1")
    return text


@functools.cache
def _session() -> Session:
    """Where botocore finds its service descriptions, and the server's own credentials; one for the process."""
    return Session()


@functools.cache
def _service() -> ServiceModel:
    with _lock:
        model: ServiceModel = _session().get_service_model("sesv2")
    return model


def endpoint(region_name: str) -> str:
    """The service's address in a region, in whichever partition of AWS it lies."""
    with _lock:
        found = EndpointResolver(_session().get_data("endpoints")).construct_endpoint("email", region_name)
    if not found:
        raise BadSettings({"region": "is not known to have Amazon SES; name a base URL as well"})
    return f"https://{found['hostname']}"


class SesClient:
    """Calls operations of the SES API v2 in one region. Safe to use from many threads."""

    def __init__(self, settings: Mapping[str, Any], *, timeout: float) -> None:
        """Without an access key in `settings` the server's own AWS credentials are used, found with the first call."""
        self._region = settings["region"]
        self._http = HttpClient(_origin(settings["base_url"] or endpoint(self._region)), timeout=timeout)
        self._credentials: Any = None
        if settings["access_key_id"]:
            self._credentials = Credentials(
                settings["access_key_id"], settings["secret_access_key"], settings["session_token"] or None
            )

    def call(self, operation: str, parameters: Mapping[str, Any]) -> Answer:
        """One signed request, never repeated.

        Raises PermanentFailure when the parameters do not fit botocore's description of the operation,
        TemporaryFailure when no answer came, Misconfigured when there are no credentials.
        """
        model = _service().operation_model(operation)
        try:
            written = create_serializer("rest-json", include_validation=True).serialize_to_request(parameters, model)
        except ParamValidationError as error:
            # Its text quotes values, and they may be mail.
            names = ", ".join(dict.fromkeys(_WRONG_PARAMETER.findall(str(error)))) or "some parameter"
            raise PermanentFailure(f"The request cannot be written: {names}.", code="bad_request") from None
        prepare_request_dict(written, endpoint_url=self._http.base_url.rstrip("/"), context={})
        request = create_request_object(written)
        try:
            SigV4Auth(self._frozen(), "ses", self._region).add_auth(request)
        except BotoCoreError as error:
            # The server's own credentials could not be fetched or renewed just now.
            raise TemporaryFailure(scrub(str(error)), code="no_credentials") from error
        prepared = request.prepare()
        body = prepared.body.encode() if isinstance(prepared.body, str) else prepared.body
        headers = {name: _text(value) for name, value in prepared.headers.items()}
        return self._http.request(prepared.method, prepared.url, body or None, headers)

    def close(self) -> None:
        self._http.close()

    def _frozen(self) -> Any:
        if self._credentials is None:
            with _lock:
                self._credentials = _session().get_credentials()
        if self._credentials is None:
            raise Misconfigured("The server has no AWS credentials of its own.", code="bad_credentials")
        return self._credentials.get_frozen_credentials()


def _origin(base_url: str) -> str:
    """Without the path of the API, which botocore writes."""
    return base_url.strip().rstrip("/").removesuffix("/v2/email")


def _text(value: str | bytes) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else value
