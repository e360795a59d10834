"""What a first run makes, so that a first message can be sent at once: demo tenant, account, provider and operator."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

from django.conf import settings
from django.db import transaction

from accounts import credentials
from accounts.generated import generate
from accounts.models import Account, Tenant, User
from providers.models import Provider

SENDER_DOMAIN = "example.com"


@dataclass(frozen=True, slots=True)
class Demo:
    """How to sign in; kept in a file that only this user can read, so that later runs can print it again."""

    operator: str
    operator_password: str = field(repr=False)
    username: str
    password: str = field(repr=False)
    outbox: str

    @property
    def sender(self) -> str:
        return f"app@{SENDER_DOMAIN}"


def credentials_file() -> Path:
    return Path(settings.DATA_DIR) / "demo-credentials"


def load() -> Demo | None:
    """The demo made by an earlier run, if its account is still there."""
    try:
        demo = Demo(**json.loads(credentials_file().read_text(encoding="utf-8")))
    except (FileNotFoundError, ValueError, TypeError):
        return None
    return demo if Account.objects.filter(username=demo.username).exists() else None


def ensure() -> Demo | None:
    """The demo, made now if this installation has no tenant at all; None where people have set up their own.

    The file is written before the rows are committed: a run that dies between leaves no tenant and starts over.
    """
    if Tenant.objects.exists():
        return load()
    with transaction.atomic():
        demo = _make()
        with _replaced(credentials_file()) as draft:
            draft.write_text(json.dumps(asdict(demo), indent=2) + "\n", encoding="utf-8")
    return demo


def _make() -> Demo:
    outbox = Path(settings.DATA_DIR) / "outbox"
    outbox.mkdir(mode=0o700, exist_ok=True)
    tenant = Tenant.objects.create(name="Demo", slug="demo")
    account = Account.objects.create(
        tenant=tenant, name="Demo application", username="demo", allowed_senders=[SENDER_DOMAIN]
    )
    provider = Provider(
        tenant=tenant, name="Outbox folder", type="file", config={"directory": str(outbox)}, default_rank=1
    )
    provider.full_clean()
    provider.save()
    operator, operator_password = f"operator@{SENDER_DOMAIN}", generate(20)
    if not User.objects.filter(email=operator).exists():
        User.objects.create_superuser(operator, operator_password, name="Operator")
    return Demo(operator, operator_password, account.username, credentials.issue_password(account), str(outbox))


@contextmanager
def _replaced(path: Path) -> Iterator[Path]:
    """A draft that takes the place of `path` when the block ends well, complete and on disk."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    os.close(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    try:
        yield draft
        with draft.open("rb") as file:
            os.fsync(file.fileno())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
