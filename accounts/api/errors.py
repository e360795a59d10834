"""One shape for every error: {"code", "message", "details"}, and nothing of what goes on inside (API-3)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import structlog
from django.core.exceptions import PermissionDenied
from django.core.exceptions import ValidationError as ModelError
from django.db import IntegrityError, InterfaceError, OperationalError
from django.http import Http404
from rest_framework import exceptions, status
from rest_framework.response import Response
from rest_framework.settings import api_settings

log = structlog.get_logger(__name__)

RETRY_AFTER = 5
"""Seconds a client is asked to wait when the database is away."""


class Conflict(exceptions.APIException):
    """What is asked for does not fit what is there."""

    status_code = status.HTTP_409_CONFLICT
    default_detail = "This conflicts with what is there."
    default_code = "conflict"


class TooLarge(exceptions.APIException):
    status_code = status.HTTP_413_REQUEST_ENTITY_TOO_LARGE
    default_detail = "This is too large."
    default_code = "too_large"


class Unavailable(exceptions.APIException):
    """Try again later; nothing was changed."""

    status_code = status.HTTP_503_SERVICE_UNAVAILABLE
    default_detail = "The service is not available at the moment; try again."
    default_code = "unavailable"

    def __init__(self, detail: str | None = None, code: str | None = None, wait: float = RETRY_AFTER) -> None:
        super().__init__(detail, code)
        self.wait = wait


def body(code: str, message: str, details: Any = None) -> dict[str, Any]:
    """The one shape of an error."""
    return {"code": code, "message": message, "details": details if details is not None else {}}


def handle(error: Exception, context: Mapping[str, Any]) -> Response | None:  # noqa: ARG001 -- DRF's hook
    """DRF's hook: the answer to an exception in a view; None lets Django answer 500."""
    error = _as_api_error(error)
    if not isinstance(error, exceptions.APIException):
        return None
    headers = {}
    challenge, wait = getattr(error, "auth_header", None), getattr(error, "wait", None)
    if challenge:
        headers["WWW-Authenticate"] = challenge
    if wait is not None:
        headers["Retry-After"] = str(max(1, math.ceil(wait)))
    return Response(_told(error), status=error.status_code, headers=headers)


def _as_api_error(error: Exception) -> Exception:
    if isinstance(error, OperationalError | InterfaceError):
        log.warning("database does not answer", error=type(error).__name__)
        return Unavailable()
    if isinstance(error, IntegrityError):  # a row that came in between, or one that others belong to
        return Conflict()
    if isinstance(error, Http404):
        return exceptions.NotFound()
    if isinstance(error, PermissionDenied):
        return exceptions.PermissionDenied(str(error) or None)
    if isinstance(error, ModelError):
        return invalid(error)
    return error


def invalid(error: ModelError) -> exceptions.ValidationError:
    """What a model refused, as what a serializer refuses; codes such as `field:name` put a message at its field."""
    if not hasattr(error, "error_dict"):
        return exceptions.ValidationError({api_settings.NON_FIELD_ERRORS_KEY: error.messages})
    told: dict[str, list[str]] = {}
    for field, problems in error.error_dict.items():
        for problem in problems:
            code = problem.code or ""
            name = code.removeprefix("field:") if code.startswith("field:") else field
            name = api_settings.NON_FIELD_ERRORS_KEY if name == "__all__" else name
            told.setdefault(name, []).extend(problem.messages)
    return exceptions.ValidationError(told)


def _told(error: exceptions.APIException) -> dict[str, Any]:
    if isinstance(error, exceptions.ValidationError):
        return body("invalid", "Some of what was given cannot be taken; details say what.", _by_field(error.detail))
    detail = error.detail
    if isinstance(detail, Mapping):
        return body(str(detail.get("code", error.default_code)), str(detail.get("message", detail.get("detail", ""))))
    code = error.get_codes()
    return body(code if isinstance(code, str) else error.default_code, str(detail), getattr(error, "details", None))


def _by_field(detail: Any) -> Any:
    return detail if isinstance(detail, Mapping) else {api_settings.NON_FIELD_ERRORS_KEY: detail}
