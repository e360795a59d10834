"""How the API describes itself: one way in, one shape of errors, told with every operation (API-5)."""

from __future__ import annotations

from typing import Any

from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.openapi import AutoSchema
from drf_spectacular.plumbing import ResolvedComponent

ERROR = {
    "type": "object",
    "required": ["code", "message", "details"],
    "properties": {
        "code": {"type": "string", "description": "For programs: it stays what it is.", "example": "invalid"},
        "message": {"type": "string", "description": "For people."},
        "details": {"type": "object", "additionalProperties": {}, "description": "Of `invalid`: messages by field."},
    },
}
ERROR_REF = {"$ref": "#/components/schemas/Error"}
"""For the description of an error of which there is more to say than below."""
_ALWAYS = {
    "400": "What was given cannot be taken; `details` says what.",
    "403": "Not allowed: by role or scope, or not from this network.",
    "405": "The resource has no such method.",
    "406": "There is nothing but JSON.",
    "429": "Too many requests; `Retry-After` says when to come again.",
    "503": "The service is not available at the moment; `Retry-After` says when to try again.",
}
_SIGNED_IN = {"401": "Nobody has signed in, or the token is not valid (any more): `TOKEN_EXPIRED`, `token_not_valid`."}
_ROW = {"404": "There is no such row, or it is another tenant's."}
_WRITE = {"409": "It conflicts with what is there.", "415": "What was sent is not JSON."}


class Schema(AutoSchema):
    """Each operation with the errors it may answer."""

    def get_operation(self, path: str, path_regex: str, path_prefix: str, method: str, registry: Any) -> Any:
        operation = super().get_operation(path, path_regex, path_prefix, method, registry)
        if operation is None:
            return None
        component = ResolvedComponent(name="Error", type=ResolvedComponent.SCHEMA, object="Error", schema=ERROR)
        registry.register_on_missing(component)
        errors = _ALWAYS | _SIGNED_IN | (_ROW if "{" in path else {})
        errors |= _WRITE if method in ("POST", "PUT", "PATCH", "DELETE") else {}
        answers = operation["responses"]
        for status in {*errors, *(status for status in answers if status >= "400")}:
            text = answers.get(status, {}).get("description") or errors[status]
            answers[status] = {"description": text, "content": {"application/json": {"schema": ERROR_REF}}}
        operation["responses"] = dict(sorted(answers.items()))
        return operation


class _Bearer(OpenApiAuthenticationExtension):
    target_class = "accounts.api.authentication.BearerAuthentication"
    name = "bearer"

    def get_security_definition(self, auto_schema: Any) -> dict[str, Any]:
        return {
            "type": "http",
            "scheme": "bearer",
            "description": "An access token of a person (`auth/login`), or an API key of an account (`smk_…`).",
        }


class _Nobody(OpenApiAuthenticationExtension):
    target_class = "accounts.api.authentication.Nobody"
    name = []

    def get_security_requirement(self, auto_schema: Any) -> Any:
        return None

    def get_security_definition(self, auto_schema: Any) -> list[Any]:
        return []
