"""Search over everything, by what an index can find: addresses, ids, usernames, and words in the newest subjects."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from django.db.models import Q
from django.db.models.functions import Lower
from django.http import HttpRequest, HttpResponse
from django.urls import reverse

from accounts.admin_page import AdminPage
from accounts.models import Account, Tenant, User
from accounts.tenancy import Area, Verb, permits, visible_to
from delivery.models import DeliveryLog, Message, Recipient, Suppression
from delivery.read_only_admin import as_uuid
from providers.models import Provider

EACH = 10
"""Hits of each kind."""
SUBJECTS = 2000
"""Newest messages whose subjects are looked at."""
LONGEST = 500
_UNFIT = re.compile("[\x00\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Hit:
    kind: str
    title: str
    told: str
    link: str


def find(user: User, term: str) -> list[Hit]:
    """What this person may see that has to do with the term; at most ten of each kind."""
    term = term.strip()
    if len(term) < 2 or len(term) > LONGEST or _UNFIT.search(term):
        return []
    found: list[Hit] = []
    if permits(user, Area.MESSAGES, Verb.READ):
        found += _messages(user, term)
    if permits(user, Area.ACCOUNTS, Verb.READ):
        for row in visible_to(user, Account).filter(username__istartswith=term).order_by("username")[:EACH]:
            found.append(
                Hit("account", row.username, row.name, reverse("admin:accounts_account_change", args=[row.pk]))
            )
    if "@" in term and permits(user, Area.SUPPRESSIONS, Verb.READ):
        # As the index has them: by tenant, in lower case.
        tenants = list(visible_to(user, Tenant).values_list("pk", flat=True))
        lower = visible_to(user, Suppression).alias(lower=Lower("address"))
        for gone in lower.filter(tenant__in=tenants, lower=term.lower())[:EACH]:
            link = reverse("admin:delivery_suppression_change", args=[gone.pk])
            found.append(Hit("suppression", gone.address, gone.get_reason_display(), link))
    if permits(user, Area.LOGS, Verb.READ):
        key = as_uuid(term)
        if key is not None:
            for log in visible_to(user, DeliveryLog).filter(pk=key):
                link = reverse("admin:delivery_deliverylog_change", args=[log.pk])
                found.append(Hit("delivery log", str(log.pk), f"{log.provider_name} {log.status}", link))
    return found


def _messages(user: User, term: str) -> Iterator[Hit]:
    mine, key = visible_to(user, Message), as_uuid(term)
    known: dict[object, Message] = {}
    if key is not None:
        looks = [mine.filter(pk=key)]
    elif term.startswith("<"):
        looks = [mine.filter(message_id_header=term)]
    elif "@" in term:
        spelt = {term, term.lower()}
        received = visible_to(user, Recipient).filter(address__in=spelt).order_by("-pk").values("message_id")
        looks = [mine.filter(pk__in=list(received.values_list("message_id", flat=True)[:EACH]))]
        looks.append(mine.filter(mail_from__in=spelt))
    else:
        # The index begins with the provider; shared ones serve tenants too.
        providers = list(
            Provider.objects.filter(Q(tenant=None) | Q(pk__in=visible_to(user, Provider))).values_list("pk")
        )
        told = visible_to(user, Recipient).filter(provider_id__in=[pk for (pk,) in providers], provider_message_id=term)
        looks = [mine.filter(pk__in=list(told.values_list("message_id", flat=True)[:EACH]))]
        newest = mine.order_by("-pk").values_list("pk", "subject")[:SUBJECTS]
        about = [pk for pk, subject in newest if term.lower() in subject.lower()][:EACH]
        looks.append(mine.filter(pk__in=about))
    for look in looks:
        known.update({row.pk: row for row in look.select_related("account").order_by("-pk")[:EACH]})
    for row in known.values():
        told_of = f"{row.get_status_display()}, {row.account}, {row.accepted_at:%Y-%m-%d %H:%M} UTC"
        link = reverse("admin:delivery_message_change", args=[row.pk])
        yield Hit("message", row.subject or "(no subject)", told_of, link)


class SearchPage(AdminPage):
    area = Area.LOGS
    title = "Search"
    lead = "By address, Message-ID in angle brackets, our id or the provider's, username, or words of a subject."
    template_name = "admin/dashboard/search.html"

    def get(self, request: HttpRequest) -> HttpResponse:
        term = request.GET.get("q", "")
        return self.render({"term": term, "hits": find(self.user, term), "subjects": SUBJECTS})
