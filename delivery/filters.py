"""Which messages are meant: one filter for the admin, the commands and the API, checked where it comes in (DEL-9).

A filter never widens what a person may see: it narrows rows that `seen_by` gave.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from datetime import UTC, datetime, time
from typing import Any, TypeAlias, TypeVar

from django.db.models import Exists, Model, OuterRef, Q, QuerySet, Subquery
from django.utils.dateparse import parse_date, parse_datetime
from django.utils.text import smart_split, unescape_string_literal

from accounts.api_keys import KeyIdentity
from accounts.models import Account, Tenant, User
from accounts.tenancy import visible_to
from delivery.models import DeliveryLog, Message, MessageStatus, Recipient
from providers.models import Provider

Who: TypeAlias = User | KeyIdentity | str
"""A person, an account by its key, or the name of a command, which sees everything."""
M = TypeVar("M", bound=Model)
LONGEST = 500
_UNFIT = re.compile("[\x00\ud800-\udfff]")  # nothing a database can be asked for
YEARS = range(1971, 9999)
"""Those whose moments can be counted with, an hour or a time zone to either side."""


class BadFilter(ValueError):
    """A filter that cannot be followed; the text says what is wrong with it."""


def seen_by(who: Who, model: type[M]) -> QuerySet[M]:
    """The rows this person may know of; all of them for a command."""
    return model._default_manager.all() if isinstance(who, str) else visible_to(who, model)


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageFilter:
    """What is given must all hold; what is not given is left aside.

    `sender` (of the envelope), `recipient` and `address` (either of them) are an address, a domain as "@example.com",
    or, for a sender, "<>". `provider` is the one a person chose, or of the last attempt. `subject` is words that are
    all in it, `reason` a part of the status reason, `error_code` of one of the recipients.
    """

    tenant: uuid.UUID | None = None
    account: uuid.UUID | None = None
    status: tuple[str, ...] = ()
    provider: uuid.UUID | None = None
    sender: str = ""
    recipient: str = ""
    address: str = ""
    subject: str = ""
    accepted_from: datetime | None = None
    accepted_until: datetime | None = None
    error_code: str = ""
    reason: str = ""
    has_attachments: bool | None = None

    def as_json(self) -> dict[str, Any]:
        """What is given, for keeping; `restore` reads it."""
        found = ((field.name, getattr(self, field.name)) for field in fields(self))
        return {name: _plain(value) for name, value in found if value not in (None, "", ())}

    def narrow(self, rows: QuerySet[Message]) -> QuerySet[Message]:
        """Those of `rows` that match."""
        for name, lookup in _LOOKUPS.items():
            value = getattr(self, name)
            if value not in (None, "", ()):
                rows = rows.filter(lookup(value))
        return rows

    @property
    def by_index(self) -> bool:
        """Whether everything that is asked is in the indexes `walk` goes along."""
        return not self.as_json().keys() - {"tenant", "status" if self.status else "account"}


def parse(given: Mapping[str, Any], who: Who) -> MessageFilter:
    """The filter that texts ask for; empty ones are left aside. Tenant, account and provider are given by id or name.

    Raises BadFilter, also for what this person may not know of, in the same words as for what is not there.
    """
    for name in given:
        if name not in KEYS:
            raise BadFilter(f"There is no filter {name!r}; there are {', '.join(KEYS)}.")
    texts = {name: _texts(name, value) for name, value in given.items()}
    values: dict[str, Any] = {name: _READ[name](found) for name, found in texts.items() if found and name in _READ}
    if texts.get("tenant"):
        values["tenant"] = _find(seen_by(who, Tenant), "tenant", "slug", texts["tenant"][0])
    tenant = values.get("tenant")
    if texts.get("account"):
        rows = seen_by(who, Account).filter(tenant=tenant) if tenant else seen_by(who, Account)
        values["account"] = _find(rows, "account", "username", texts["account"][0])
    if texts.get("provider"):
        values["provider"] = find_provider(who, texts["provider"][0], tenant)
    return MessageFilter(**values)


def restore(kept: Mapping[str, Any]) -> MessageFilter:
    """What `as_json` gave."""
    read: dict[str, Callable[[Any], Any]] = {
        **dict.fromkeys(("tenant", "account", "provider"), uuid.UUID),
        **dict.fromkeys(("accepted_from", "accepted_until"), datetime.fromisoformat),
        "status": tuple,
    }
    return MessageFilter(**{name: read.get(name, lambda value: value)(value) for name, value in kept.items()})


def in_words(wanted: MessageFilter) -> dict[str, str]:
    """What is given, by name, as people write it."""
    told: dict[str, str] = {}
    models: dict[str, type[Model]] = {"tenant": Tenant, "account": Account, "provider": Provider}
    for name, value in wanted.as_json().items():
        if name in models:
            row = models[name]._default_manager.filter(pk=value).defer(*_SECRET.get(name, ())).first()
            told[name] = str(row) if row is not None else str(value)
        elif isinstance(value, list):
            told[name] = ", ".join(value)
        else:
            told[name] = {True: "yes", False: "no"}.get(value, str(value))
    return told


_SECRET = {"provider": ("config",)}


def providers_for(who: Who, tenant: uuid.UUID | None = None) -> QuerySet[Provider]:
    """The providers this person may name: those they see, and shared ones where their tenant may use them."""
    rows = Provider.objects.defer("config")
    if isinstance(who, KeyIdentity):
        tenant = who.tenant_id
    elif isinstance(who, User) and not who.is_superuser:
        tenant = who.tenant_id
        if tenant is None or not who.is_active:
            return rows.none()
    if tenant is None:
        return rows
    shared = Tenant.objects.filter(pk=tenant, may_use_shared_providers=True).exists()
    return rows.filter(Q(tenant=tenant) | Q(tenant=None)) if shared else rows.filter(tenant=tenant)


def find_provider(who: Who, text: str, tenant: uuid.UUID | None = None) -> uuid.UUID:
    """The provider of this id or name, among those this person may name; raises BadFilter."""
    return _find(providers_for(who, tenant), "provider", "name", text)


def _find(rows: QuerySet[Any], what: str, name: str, text: str) -> uuid.UUID:
    try:
        rows = rows.filter(pk=uuid.UUID(text))
    except ValueError:
        rows = rows.filter(**{name: text})
    found = list(rows.values_list("pk", flat=True)[:2])
    if not found:
        raise BadFilter(f"There is no {what} {text!r}.")
    if len(found) > 1:
        raise BadFilter(f"There are several {what}s {text!r}: give the id, or a tenant too.")
    key: uuid.UUID = found[0]
    return key


def _texts(name: str, value: Any) -> list[str]:
    """The texts given for a filter; only statuses may be several, which commas may part."""
    found = [value] if isinstance(value, str | bool) else list(value or ())
    texts = [("yes" if text else "no") if isinstance(text, bool) else str(text).strip() for text in found]
    if name == "status":
        texts = [part.strip() for text in texts for part in text.split(",")]
    texts = [text for text in texts if text]
    if name != "status" and len(texts) > 1:
        raise BadFilter(f"The filter {name!r} takes one value.")
    if any(_UNFIT.search(text) or len(text) > LONGEST for text in texts):
        raise BadFilter(f"The value of {name!r} is too long or no text.")
    return texts


def _status(texts: list[str]) -> tuple[str, ...]:
    unknown = [text for text in texts if text not in MessageStatus.values]
    if unknown:
        raise BadFilter(f"There is no status {unknown[0]!r}; there are {', '.join(MessageStatus.values)}.")
    return tuple(dict.fromkeys(texts))


def _mailbox(texts: list[str]) -> str:
    [text] = texts
    local, _, domain = text.rpartition("@")
    if "*" in text or any(character.isspace() for character in text) or not domain:
        raise BadFilter(f"{text!r} is no address and no domain: write anna@example.com or example.com.")
    return f"{local}@{domain.lower()}"


def _sender(texts: list[str]) -> str:
    return "<>" if texts == ["<>"] else _mailbox(texts)


def _flag(texts: list[str]) -> bool:
    known = {"yes": True, "true": True, "1": True, "no": False, "false": False, "0": False}
    try:
        return known[texts[0].lower()]
    except KeyError:
        raise BadFilter(f"{texts[0]!r} is neither yes nor no.") from None


def _moment(texts: list[str]) -> datetime:
    [text] = texts
    try:
        day = parse_date(text)
        moment = datetime.combine(day, time()) if day else parse_datetime(text)
    except ValueError:
        moment = None
    if moment is None or moment.year not in YEARS:
        raise BadFilter(
            f"{text!r} is no time: write 2026-08-14 or 2026-08-14T09:00:00+02:00; without a zone it is UTC."
        )
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _one(texts: list[str]) -> str:
    return texts[0]


_READ: dict[str, Callable[[list[str]], Any]] = {
    "status": _status,
    "sender": _sender,
    "recipient": _mailbox,
    "address": _mailbox,
    "subject": _one,
    "accepted_from": _moment,
    "accepted_until": _moment,
    "error_code": _one,
    "reason": _one,
    "has_attachments": _flag,
}
KEYS = tuple(field.name for field in fields(MessageFilter))


def _plain(value: Any) -> Any:
    match value:
        case uuid.UUID():
            return str(value)
        case datetime():
            return value.isoformat()
        case tuple():
            return list(value)
        case _:
            return value


def _is(path: str, mailbox: str) -> Q:
    """The address itself, or any of its domain; upper and lower case make no difference."""
    exactly = not mailbox.startswith("@")
    return Q(**{f"{path}__iexact" if exactly else f"{path}__iendswith": mailbox})


def _from(mailbox: str) -> Q:
    return Q(mail_from="") if mailbox == "<>" else _is("mail_from", mailbox)


def _to(mailbox: str) -> Q:
    return _some_recipient(_is("address", mailbox))


def _some_recipient(condition: Q) -> Q:
    return Q(Exists(Recipient.objects.filter(condition, message=OuterRef("pk"))))


def _through(provider: uuid.UUID) -> Q:
    newest = DeliveryLog.objects.filter(message=OuterRef("message")).order_by("-pk").values("pk")[:1]
    last = DeliveryLog.objects.filter(message=OuterRef("pk"), provider=provider, pk=Subquery(newest))
    return Q(routed_to=provider) | Q(Exists(last))


def _words(text: str) -> Iterable[str]:
    """As the search of the admin takes them: parted by spaces, quotes keep words together."""
    for word in smart_split(text):
        quoted = len(word) > 1 and word[0] in "\"'" and word[0] == word[-1]
        yield unescape_string_literal(word) if quoted else word


def _about(text: str) -> Q:
    return Q(*(Q(subject__icontains=word) for word in _words(text)))


_LOOKUPS: dict[str, Callable[[Any], Q]] = {
    "tenant": lambda key: Q(tenant=key),
    "account": lambda key: Q(account=key),
    "status": lambda statuses: Q(status__in=statuses),
    "provider": _through,
    "sender": _from,
    "recipient": _to,
    "address": lambda mailbox: _from(mailbox) | _to(mailbox),
    "subject": _about,
    "accepted_from": lambda moment: Q(accepted_at__gte=moment),
    "accepted_until": lambda moment: Q(accepted_at__lt=moment),
    "error_code": lambda code: _some_recipient(Q(error_code=code)),
    "reason": lambda text: Q(status_reason__icontains=text),
    "has_attachments": lambda flag: Q(has_attachments=flag),
}
