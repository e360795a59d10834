"""`providers`: the e-mail services of a tenant, their types, and trying one out (API-1, PRV-12, PRV-13)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import structlog
from django.core.exceptions import ValidationError as ModelError
from django.db import transaction
from django.db.models import ProtectedError, QuerySet
from django.utils import timezone
from django_filters import rest_framework as filters
from drf_spectacular.utils import extend_schema, extend_schema_field, inline_serializer
from rest_framework import exceptions, serializers
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from accounts import shared_state
from accounts.api import errors
from accounts.api.errors import Conflict, Unavailable
from accounts.api.views import RowSerializer, RowViewSet
from accounts.audit import MASK
from accounts.crypto import DecryptionError
from accounts.tenancy import Area, Verb
from providers import entered, health, registry, trial
from providers.api.fields import SettingsField, specs, usable_by
from providers.models import MOST_RETRIES, Provider
from providers.trial_admin import MessageForm
from providers.webhooks import page

log = structlog.get_logger(__name__)

UNREADABLE = "Its settings cannot be read: none of the platform's keys opens them. Delete it and enter it again."
TOO_MANY = f"That was more than {trial.PER_MINUTE} tests in a minute."
NOT_COUNTED = "The shared store does not answer, so that nobody knows how many were sent already."


class HealthSerializer(serializers.Serializer[Any]):
    """`healthy`; `unhealthy` until a moment; or `probing`: the next message shows whether it is back."""

    state = serializers.ChoiceField(["healthy", "unhealthy", "probing"])
    reason = serializers.CharField()
    until = serializers.DateTimeField(allow_null=True)


class ProviderLine(RowSerializer):
    """A provider without its settings, as lists show it."""

    health = serializers.SerializerMethodField()
    retry_schedule = serializers.ListField(
        child=serializers.IntegerField(),
        max_length=MOST_RETRIES,
        allow_null=True,
        required=False,
        help_text="Seconds before each retry; null: the platform's schedule.",
    )
    per_second = serializers.FloatField(allow_null=True, required=False, min_value=0.001, max_value=1e9)

    class Meta:
        model = Provider
        fields: tuple[str, ...] = (
            "id",
            "tenant",
            "name",
            "type",
            "enabled",
            "default_rank",
            "retry_schedule",
            "per_second",
            "per_minute",
            "per_day",
            "concurrency",
            "health",
            "created_at",
            "updated_at",
        )
        validators = ()

    @extend_schema_field(HealthSerializer)
    def get_health(self, provider: Provider) -> dict[str, Any]:
        until = provider.unhealthy_until
        if until is None:
            return {"state": "healthy", "reason": "", "until": None}
        waits = until > timezone.now()
        state = "unhealthy" if waits else "probing"
        return {"state": state, "reason": provider.unhealthy_reason, "until": until if waits else None}


class ProviderSerializer(ProviderLine):
    """A provider. `providers/types` names the settings of each type. `type` and `tenant` never change.

    Settings that are not named stay as they are, null takes one away; a secret reads `***`, and that, or leaving it
    out, keeps it. When the server changes that secrets are sent to, they are to be given again.
    """

    config = SettingsField(required=False)
    webhook_url = serializers.SerializerMethodField(
        help_text="Where the service is to send its events; empty where its type sends none."
    )

    class Meta(ProviderLine.Meta):
        fields: tuple[str, ...] = (*ProviderLine.Meta.fields, "config", "webhook_url")
        extra_kwargs = {"type": {"required": False}}

    def get_webhook_url(self, provider: Provider) -> str:
        return page.address(provider) if page.has_webhook(provider.type) else ""

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        attrs = super().validate(attrs)
        row: Provider | None = self.instance
        by_operator = self.context["request"].user.is_superuser
        if row is None and attrs.get("type") not in registry.offered(by_operator=by_operator):
            known = ", ".join(registry.offered(by_operator=by_operator))
            raise serializers.ValidationError({"type": [f"One of: {known}."]})
        if row is not None and attrs.pop("type", row.type) != row.type:
            raise serializers.ValidationError({"type": ["A provider never changes its type."]})
        return attrs

    def save_checked(self, row: Provider) -> Provider:
        new = row._state.adding
        given = self.validated_data.pop("config", {})
        if new:
            row.type = self.validated_data["type"]
        row.config = self._combined(row.type, {} if new else dict(row.config or {}), given)
        if not new:
            # Somebody has looked after it: the next message finds out at once whether it works.
            health.note_saved(row)
        try:
            return super().save_checked(row)
        except ModelError as error:
            raise serializers.ValidationError(_at_settings(errors.invalid(error).detail)) from None

    def _combined(self, type_: str, stored: dict[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
        known = {spec.name: spec for spec in specs(type_)}
        secrets = {name for name, spec in known.items() if spec.kind == "secret"}
        settings = {name: stored.get(name, spec.default) for name, spec in known.items() if name not in secrets}
        for name, value in given.items():
            if name in known and not (name in secrets and value == MASK):
                settings[name] = known[name].default if value is None and name not in secrets else value
        config, problems = entered.combine(
            list(known.values()),
            settings,
            stored,
            removed=[name for name in secrets if name in given and given[name] in (None, "")],
            by_operator=self.context["request"].user.is_superuser,
        )
        problems |= dict.fromkeys(given.keys() - known.keys(), "There is no such setting.")
        if problems:
            raise serializers.ValidationError({"config": {name: [text] for name, text in problems.items()}})
        return config


def _at_settings(told: Any) -> dict[str, Any]:
    """What is wrong with single settings, below `config`."""
    settings = {name.removeprefix("config_"): text for name, text in told.items() if name.startswith("config_")}
    others = {name: text for name, text in told.items() if not name.startswith("config_")}
    return others | ({"config": settings} if settings else {})


class TypeSettingSerializer(serializers.Serializer[Any]):
    name = serializers.CharField()
    label = serializers.CharField()  # type: ignore[assignment]
    kind = serializers.ChoiceField(["str", "text", "secret", "int", "bool", "choice"])
    secret = serializers.BooleanField()
    required = serializers.BooleanField()  # type: ignore[assignment]
    default = serializers.JSONField(allow_null=True)
    choices = serializers.ListField(child=serializers.CharField())
    low = serializers.IntegerField(allow_null=True)
    high = serializers.IntegerField(allow_null=True)
    help = serializers.CharField()


class TypeSerializer(serializers.Serializer[Any]):
    type = serializers.CharField()
    label = serializers.CharField()  # type: ignore[assignment]
    sandbox = serializers.BooleanField(help_text="It delivers to nobody.")
    webhooks = serializers.BooleanField(help_text="The service can tell what became of a message later.")
    settings = TypeSettingSerializer(many=True)


class UsableSerializer(serializers.ModelSerializer[Provider]):
    class Meta:
        model = Provider
        fields = ("id", "name", "type", "enabled")


class TestSerializer(serializers.Serializer[Any]):
    """Without both: only the settings are tried. With both, a small message is sent."""

    sender = serializers.CharField(max_length=254, required=False)
    recipient = serializers.CharField(max_length=254, required=False)


class TrialSerializer(serializers.Serializer[Any]):
    """What came of it; `text` is in the provider's own words."""

    good = serializers.BooleanField()
    text = serializers.CharField()
    code = serializers.CharField()
    status_code = serializers.IntegerField(allow_null=True)
    duration_ms = serializers.IntegerField()
    verdict = serializers.CharField()
    provider_message_id = serializers.CharField()


class ProviderFilter(filters.FilterSet):
    # By text, so that a tenant nobody may know of is like one that is not there.
    tenant = filters.UUIDFilter(field_name="tenant_id")

    class Meta:
        model = Provider
        fields = ("type", "enabled", "name", "tenant")


class ProviderViewSet(RowViewSet):
    """The providers of the caller's tenant; an operator's list holds all, the shared ones with `tenant` null."""

    area = Area.PROVIDERS
    verbs = {"types": Verb.READ, "shared": Verb.READ, "test": Verb.UPDATE, "probe": Verb.UPDATE}
    queryset = Provider.objects.defer("config")
    serializer_class = ProviderSerializer
    filterset_class = ProviderFilter
    ordering_fields = ("created_at", "name")

    def get_serializer_class(self) -> type[Any]:
        return ProviderLine if self.action == "list" else ProviderSerializer

    def handle_exception(self, exc: Exception) -> Response:
        return super().handle_exception(Conflict(UNREADABLE, "unreadable") if isinstance(exc, DecryptionError) else exc)

    def perform_update(self, serializer: Any) -> None:
        if serializer.instance.type not in registry.offered(by_operator=self.request.user.is_superuser):
            raise exceptions.PermissionDenied("Providers of this type are the platform operator's to change.")
        super().perform_update(serializer)

    def perform_destroy(self, instance: Provider) -> None:
        try:
            _ = instance.config
        except DecryptionError:
            instance.config = {}  # nobody can read it any more, and it is to go
        try:
            super().perform_destroy(instance)
        except ProtectedError:
            raise Conflict("There are routing rules that name it.", "in_use") from None

    @extend_schema(responses=TypeSerializer(many=True))
    @action(detail=False, pagination_class=None, filterset_class=None)
    def types(self, request: Request) -> Response:
        """The types the caller may add, and the settings of each."""
        return Response([_type(type_) for type_ in registry.offered(by_operator=request.user.is_superuser)])

    @extend_schema(responses=UsableSerializer(many=True))
    @action(detail=False, filterset_class=None)
    def shared(self, request: Request) -> Response:
        """The platform's own providers that the caller's rules may name."""
        rows: QuerySet[Provider] = usable_by(request.user).filter(tenant=None)
        return self.get_paginated_response(UsableSerializer(self.paginate_queryset(rows), many=True).data)

    @extend_schema(request=TestSerializer, responses=TrialSerializer)
    @action(detail=True, methods=["post"])
    def test(self, request: Request, **_: Any) -> Response:
        """Try it out now, whatever is known of it: its settings, or a small message. Takes up to 30 seconds; limited
        to ten a minute."""
        provider: Provider = self.get_object()
        if provider.type not in registry.offered(by_operator=request.user.is_superuser):
            raise exceptions.PermissionDenied("Providers of this type are the platform operator's to try.")
        asked = TestSerializer(data=request.data)
        asked.is_valid(raise_exception=True)
        form = _message_form(provider, request, asked.validated_data) if asked.validated_data else None
        self._count(request, sends=form is not None)
        # The entry comes first, so that nothing is sent without one.
        if form is None:
            self.note("tested", provider)
            result = trial.check(provider)
        else:
            sender, recipient = form.cleaned_data["sender"], form.cleaned_data["recipient"]
            self.note("test_message", provider, {"from": sender, "to": recipient})
            result = trial.send(provider, sender, recipient, str(request.user))
        return Response(TrialSerializer(result).data)

    @extend_schema(
        request=None, responses=inline_serializer("Probed", {"ended": serializers.BooleanField(help_text="A pause.")})
    )
    @action(detail=True, methods=["post"])
    def probe(self, _request: Request, **_: Any) -> Response:
        """End the pause of an unhealthy provider: the next message shows whether it is back."""
        provider: Provider = self.get_object()
        with transaction.atomic():
            ended = health.probe_now(provider)
            if ended:
                self.note("probed", provider, {"unhealthy_reason": [provider.unhealthy_reason, None]})
        return Response({"ended": ended})

    def _count(self, request: Request, *, sends: bool) -> None:
        try:
            if not trial.may_try(request.user):
                raise exceptions.Throttled(wait=60, detail=TOO_MANY)
        except shared_state.Unavailable as error:
            log.warning("trials not counted", error=str(error))
            if sends:
                raise Unavailable(NOT_COUNTED) from error


def _message_form(provider: Provider, request: Request, given: Mapping[str, Any]) -> MessageForm:
    form = MessageForm(given, tenant=provider.tenant, by_operator=request.user.is_superuser)
    if not form.is_valid():
        raise exceptions.ValidationError({name: [str(one) for one in told] for name, told in form.errors.items()})
    return form


def _type(type_: str) -> dict[str, Any]:
    backend = registry.backend_class(type_)
    return {
        "type": type_,
        "label": registry.label(type_),
        "sandbox": backend.sandbox,
        "webhooks": page.has_webhook(type_),
        "settings": [
            {
                "name": spec.name,
                "label": spec.label,
                "kind": spec.kind,
                "secret": spec.kind == "secret",
                "required": spec.required,
                "default": spec.default,
                "choices": list(spec.choices),
                "low": spec.low,
                "high": spec.high,
                "help": spec.help,
            }
            for spec in backend.config_fields
        ],
    }
