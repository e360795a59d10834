"""Finding refused sessions by what people have at hand (SMTP-18)."""

from __future__ import annotations

import uuid
from ipaddress import ip_address

from django.db.models import Q, QuerySet

from delivery.models import RefusedSession


def search(rows: QuerySet[RefusedSession], term: str) -> QuerySet[RefusedSession]:
    """Those of `rows` that a client address, a username, an address of the envelope, a session or a code names."""
    for read, name in ((uuid.UUID, "pk"), (ip_address, "client_ip")):
        try:
            return rows.filter(**{name: str(read(term))})
        except ValueError:
            continue
    if "\0" in term:
        return rows.none()
    either = {term, term.lower()}
    found = Q(username__in=either) | Q(session_id=term) | Q(reason=term.lower())
    return rows.filter(found | Q(mail_from__in=either) | Q(recipient__in=either))
