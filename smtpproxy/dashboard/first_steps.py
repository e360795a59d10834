"""What a new installation, or a new tenant, does first: each step with a link, and whether it is done."""

from __future__ import annotations

from dataclasses import dataclass

from django.urls import reverse

from accounts.models import Account, Tenant, User
from accounts.tenancy import Area, Verb, permits, visible_to
from delivery.models import Message
from providers.models import Provider, RoutingRule


@dataclass(frozen=True, slots=True)
class Step:
    title: str
    text: str
    link: str
    done: bool


def steps(user: User) -> list[Step]:
    """The steps this person may take; none once mail has come in, when nobody needs them any more."""
    if not permits(user, Area.PROVIDERS, Verb.CREATE) or visible_to(user, Message).exists():
        return []
    provider = visible_to(user, Provider).filter(enabled=True).defer("config").first()
    found = []
    if user.is_superuser:
        tenant = Tenant.objects.exists()
        told = "Whose mail it is: accounts, providers and rules belong to one."
        found.append(Step("Make a tenant", told, reverse("admin:accounts_tenant_add"), tenant))
    found.append(
        Step(
            "Add a provider",
            "The service that delivers your mail; its page tests the connection.",
            reverse("admin:providers_provider_add"),
            provider is not None,
        )
    )
    if permits(user, Area.ACCOUNTS, Verb.CREATE):
        told = "What an application signs in with; the password is shown once, with examples to copy."
        account = visible_to(user, Account).exists()
        found.append(Step("Add an account", told, reverse("admin:accounts_account_add"), account))
    rule = visible_to(user, RoutingRule).exists()
    told = "Which mail goes to which provider. Without a rule the providers with a default rank are tried in turn."
    found.append(Step("Write a routing rule, if you need one", told, reverse("admin:providers_routingrule_add"), rule))
    test = reverse("admin:providers_provider_changelist")
    if provider is not None:
        test = reverse("admin:providers_provider_trial", args=[provider.pk])
    told = "From the page of the provider, or by SMTP as the example on the page of the account shows."
    found.append(Step("Send a test message", told, test, False))
    return found
