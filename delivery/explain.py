"""Why a message would take its route: each rule's verdict, the candidates, and who would be used (RTE-5).

Nothing is changed, sent or asked of a service: what is told is what the rows say at this moment.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from django.utils import timezone

from accounts.models import Tenant
from delivery import candidates, mime, routing, store, suppressions
from delivery.candidates import Candidate, Level
from delivery.exceptions import BodyNotFound, StoreUnavailable
from delivery.models import Message
from providers import conditions
from providers.base import OutboundMessage
from providers.explanation import Check
from providers.explanation import explain as explain_condition
from providers.models import RoutingRule


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked about. `message` is the message itself where it is stored, so that providers can be asked what
    they would do to it; `message_id` is "" for one that is made up. `headers` have lower-case names; without
    `shows_headers` conditions look at them and nobody is told what they hold. `routed_to` is the provider a person
    chose for it."""

    tenant: Tenant
    account: str
    sender: str
    recipients: tuple[str, ...]
    subject: str = ""
    size: int = 0
    headers: Sequence[tuple[str, str]] = ()
    has_attachments: bool = False
    message_id: str = ""
    released: bool = False
    now: datetime = field(default_factory=timezone.now)
    message: OutboundMessage | None = None
    shows_headers: bool = True
    notes: tuple[str, ...] = ()
    routed_to: uuid.UUID | None = None


@dataclass(frozen=True, slots=True)
class RuleTold:
    """A rule, whether all its conditions hold, and each of them. `verdict` says what follows from that."""

    rule: RoutingRule
    holds: bool
    decides: bool
    verdict: str
    checks: tuple[Check, ...]


@dataclass(frozen=True, slots=True)
class RouteTold:
    """Recipients for whom every rule says the same, and what would become of them. `good` when it is a send,
    `chosen` when a person chose the provider and no rule decides."""

    recipients: tuple[str, ...]
    rules: tuple[RuleTold, ...]
    rule: RoutingRule | None
    candidates: tuple[Candidate, ...]
    outcome: str
    good: bool
    chosen: bool = False


@dataclass(frozen=True, slots=True)
class Explanation:
    """`suppressed` are addresses that are not mailed, with the reason; `notes` what was not known."""

    routes: tuple[RouteTold, ...]
    suppressed: tuple[tuple[str, str], ...]
    notes: tuple[str, ...]


def about(message: Message, *, shows_headers: bool = True) -> Question:
    """The question for a stored message, as if it were to be sent to all its recipients now."""
    addresses = tuple(message.recipients.order_by("pk").values_list("address", flat=True))
    notes: tuple[str, ...] = ()
    outbound = None
    try:
        outbound = OutboundMessage(
            message_id=str(message.pk),
            idempotency_key="",
            mail_from=message.mail_from,
            recipients=addresses,
            envelope_recipients=addresses,
            raw=mime.strip_headers(store.read(message.store_key)),
            smtputf8=message.smtputf8,
            parse=mime.parse,
        )
    except BodyNotFound:
        notes = ("The body is no longer stored: headers and what providers would do to it are not known.",)
    except StoreUnavailable:
        notes = ("The message store does not answer: headers and what providers would do to it are not known.",)
    return Question(
        tenant=message.tenant,
        account=message.account.username,
        sender=message.mail_from,
        recipients=addresses,
        subject=message.subject,
        size=message.size,
        headers=mime.header_items(outbound.raw) if outbound else (),
        has_attachments=message.has_attachments,
        message_id=str(message.pk),
        released=message.released,
        message=outbound,
        shows_headers=shows_headers,
        notes=notes,
        routed_to=message.routed_to_id,
    )


def explain(question: Question) -> Explanation:
    """Raises DatabaseError."""
    tenant = question.tenant
    unmailed = suppressions.reasons((tenant.pk, address) for address in question.recipients)
    suppressed = tuple((address, why) for (_, address), why in unmailed.items())
    mailed = [address for address in question.recipients if (tenant.pk, address) not in unmailed]
    table = routing.load(tenant)
    disabled = RoutingRule.objects.filter(tenant=tenant, enabled=False)
    rules = sorted([*table.rules, *disabled], key=lambda rule: (rule.priority, rule.pk))
    alike: dict[tuple[bool, ...], list[str]] = {}
    for address in mailed:
        facts = _facts(question, address)
        alike.setdefault(tuple(conditions.holds(rule.conditions, facts) for rule in rules), []).append(address)
    routes = tuple(_route(question, table, rules, tuple(addresses)) for addresses in alike.values())
    return Explanation(routes, suppressed, (*question.notes, *_not_counted(question)))


def _not_counted(question: Question) -> tuple[str, ...]:
    """What the tenant asks for under "byte for byte" and nobody can tell of a message that is not there (PRV-4)."""
    asks = _ASKS.get(Tenant.Lossless(question.tenant.lossless))
    if question.message is not None or asks is None:
        return ()
    return (f"This tenant {asks}. What providers would do to this message is not known, so that is left aside here.",)


_ASKS = {
    Tenant.Lossless.PREFERRED: "prefers providers that leave a message as it was written",
    Tenant.Lossless.REQUIRED: "requires providers that leave a message as it was written, and others are not used",
}


def _facts(question: Question, address: str) -> conditions.Facts:
    return conditions.Facts(
        account=question.account,
        sender=question.sender,
        recipient=address,
        headers=question.headers,
        subject=question.subject,
        size=question.size,
        has_attachments=question.has_attachments,
        message_id=question.message_id,
        now=question.now,
    )


def _route(
    question: Question, table: routing.Table, rules: Sequence[RoutingRule], recipients: tuple[str, ...]
) -> RouteTold:
    facts = _facts(question, recipients[0])
    if question.routed_to is not None:
        return _chosen(
            question, question.routed_to, recipients, tuple(_rule(question, rule, facts, None) for rule in rules)
        )
    decides = routing.first_match(table.rules, facts, released=question.released)
    told = tuple(_rule(question, rule, facts, decides) for rule in rules)
    if decides is not None and decides.action != RoutingRule.Action.SEND:
        return RouteTold(recipients, told, decides, (), _ACTIONS[RoutingRule.Action(decides.action)], good=False)
    found = candidates.of_route(
        question.tenant,
        candidates.options(table, decides),
        candidates.Sent(question.size, recipients, question.message),
    )
    outcome, good = _outcome(decides, found)
    return RouteTold(recipients, told, decides, tuple(found), outcome, good)


def _chosen(
    question: Question, provider_id: uuid.UUID, recipients: tuple[str, ...], told: tuple[RuleTold, ...]
) -> RouteTold:
    """The route of a message that was re-routed (DEL-9): as `routing.chosen`."""
    provider = routing.usable_by(question.tenant).filter(pk=provider_id).first()
    if provider is None:
        return RouteTold(recipients, told, None, (), f"Held. {routing.NOT_USABLE}", good=False, chosen=True)
    sent = candidates.Sent(question.size, recipients, question.message)
    found = candidates.of_route(question.tenant, [candidates.Option(provider, 0)], sent)
    outcome, good = _outcome(None, found)
    return RouteTold(recipients, told, None, tuple(found), outcome, good, chosen=True)


_ACTIONS = {
    RoutingRule.Action.HOLD: "Held until a person releases it.",
    RoutingRule.Action.REJECT: "Rejected.",
    RoutingRule.Action.DISCARD: "Accepted and thrown away.",
}


def _rule(question: Question, rule: RoutingRule, facts: conditions.Facts, decides: RoutingRule | None) -> RuleTold:
    checks = tuple(_check(question, condition, facts) for condition in rule.conditions)
    holds = all(check.holds for check in checks)
    chosen = decides is not None and rule.pk == decides.pk
    if not rule.enabled:
        verdict = "disabled" + (", would match" if holds else "")
    elif chosen:
        verdict = "matches and decides"
    elif not holds:
        verdict = "does not match"
    elif question.routed_to is not None:
        verdict = "matches, but a person has chosen the provider"
    elif question.released and rule.action == RoutingRule.Action.HOLD:
        verdict = "matches, but a person has released the message"
    else:
        verdict = "matches too, but comes later"
    return RuleTold(rule, holds, chosen, verdict, checks)


def _check(question: Question, condition: conditions.Condition, facts: conditions.Facts) -> Check:
    check = explain_condition(condition, facts)
    hidden = condition["field"] == "header" and not question.shows_headers
    return replace(check, found="what it holds is for those who may see bodies") if hidden else check


_STUCK = {
    Level.WAITS: "Waits: every provider that could carry it is unhealthy or set up wrongly. No try is used up.",
    Level.TOO_LARGE: "Fails: too large for every provider that could carry it.",
    Level.CHANGES: "Held: this tenant's mail must go out as it was written, and no provider of the route does that.",
}


def _outcome(rule: RoutingRule | None, found: Sequence[Candidate]) -> tuple[str, bool]:
    """What happens in the end, and whether that is a send."""
    used = [candidate for candidate in found if candidate.share]
    if len(used) == 1:
        return f"Sent through {used[0].provider.name}.", True
    if used:
        shares = " or ".join(f"{candidate.provider.name} ({candidate.share:.0f} %)" for candidate in used)
        return f"Sent through {shares}.", True
    levels = {candidate.level for candidate in found}
    nobody = "no rule matches and there is no default provider that is enabled"
    if rule is not None:
        nobody = f"rule {rule.name!r} names no provider that is enabled"
    return next((text for level, text in _STUCK.items() if level in levels), f"Held: {nobody}."), False
