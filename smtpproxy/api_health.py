"""`/api/v1/health`: whether the API works, in one word; operators hear which checks fail (OBS-3)."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import serializers, status
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from smtpproxy import health, probes


class ServiceHealth(serializers.Serializer[Any]):
    status = serializers.ChoiceField(choices=["ok", "unavailable"])
    checks = serializers.DictField(
        child=serializers.ChoiceField(choices=["ok", "warning", "failed"]),
        required=False,
        help_text="By name; told to platform operators only.",
    )


class HealthView(APIView):
    """The checks of `/readyz`; why one fails is in the log alone."""

    permission_classes = []

    @extend_schema(
        summary="Whether the service works",
        responses={200: ServiceHealth, 503: ServiceHealth},
    )
    def get(self, request: Request) -> Response:
        found = probes.answer("/readyz", health.CHECKS.values())
        code, told = found or (status.HTTP_503_SERVICE_UNAVAILABLE, {"status": "unavailable"})
        if not getattr(request.user, "is_superuser", False):
            told = {"status": told["status"]}
        return Response(told, code, headers={"Cache-Control": "no-store"})
