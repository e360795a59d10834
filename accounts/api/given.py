"""What is posted to endpoints that are no rows."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

NO_SUCH_FIELD = "There is no such field."


def unknown_fields(serializer: serializers.BaseSerializer[Any], known: Any) -> None:
    """Raise ValidationError for fields that nobody would read."""
    given = serializer.initial_data
    unknown = sorted(set(given) - set(known)) if isinstance(given, dict) else []
    if unknown:
        raise serializers.ValidationError({name: [NO_SUCH_FIELD] for name in unknown})


class Given(serializers.Serializer[Any]):
    """Named values; others than those there are is an error."""

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        unknown_fields(self, self.fields)
        return attrs

    @classmethod
    def of(cls, request: Any) -> dict[str, Any]:
        """What the request holds, checked; raises ValidationError."""
        given = cls(data=request.data, context={"request": request})
        given.is_valid(raise_exception=True)
        values: dict[str, Any] = given.validated_data
        return values
