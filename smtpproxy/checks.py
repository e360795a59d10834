"""What is wrong with the settings taken together; each finding has an id and says what to do (OPS-4).

Errors stop every command; warnings are shown by `manage.py check` and fail it in CI. What only matters where several
machines work together is left to `manage.py check --deploy`.
"""

from __future__ import annotations

import ipaddress
import os
import re
import ssl
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from cryptography.fernet import Fernet
from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, Warning, register
from django.db import DatabaseError, connection
from django.db.migrations.executor import MigrationExecutor

from accounts import wall
from delivery import sealed

_NEW_KEY = "openssl rand -base64 32 | tr +/ -_"
_ADDRESS = re.compile(r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]+@[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)*")
_ANY = {"0.0.0.0", "::", ""}  # noqa: S104 -- what people may configure


def credential_keys() -> Iterator[CheckMessage]:
    for number, key in enumerate(settings.CREDENTIAL_KEYS, 1):
        try:
            Fernet(key)
        except ValueError:
            yield Error(
                f"Key {number} of CREDENTIAL_KEYS is not a Fernet key.",
                hint=f"A Fernet key is 32 octets in URL-safe base64; {_NEW_KEY} makes one.",
                id="smtpproxy.E001",
            )
    if not settings.CREDENTIAL_KEYS:
        yield Error("CREDENTIAL_KEYS names no key.", hint=f"{_NEW_KEY} makes one.", id="smtpproxy.E001")


def shared_keys() -> Iterator[CheckMessage]:
    """Keys made by this machine alone are of no use to the next one that opens the same database."""
    local = settings.DATABASES["default"]["ENGINE"].endswith("sqlite3") and settings.QUEUE_TYPE == "embedded"
    if not local and not settings.KEYS_CONFIGURED and not settings.DEBUG:
        yield Warning(
            "SECRET_KEY and CREDENTIAL_KEYS are not both set, while database or broker can be shared by machines.",
            hint="Give every machine the same two values; those in use here are in DATA_DIR/keys.",
            id="smtpproxy.W002",
        )


def message_store() -> Iterator[CheckMessage]:
    if settings.STORAGE_TYPE == "s3" and not settings.S3_BUCKET:
        yield Error("STORAGE_TYPE=s3 without a bucket.", hint="Set S3_BUCKET.", id="smtpproxy.E003")
    if settings.STORAGE_TYPE == "local" and not _can_write(Path(settings.STORAGE_PATH)):
        yield Error(
            f"Messages cannot be written to {settings.STORAGE_PATH}.",
            hint="Set STORAGE_PATH to a folder this user may write to.",
            id="smtpproxy.E004",
        )


def storage_keys() -> Iterator[CheckMessage]:
    for number, key in enumerate(settings.STORAGE_KEYS, 1):
        try:
            sealed.Key.parse(key)
        except ValueError:
            yield Error(
                f"Key {number} of STORAGE_KEYS cannot be used.",
                hint=f"A key is 32 octets in URL-safe base64; {_NEW_KEY} makes one.",
                id="smtpproxy.E020",
            )


def bodies_in_clear() -> Iterator[CheckMessage]:
    if not settings.STORAGE_KEYS:
        yield Warning(
            "Bodies of messages are stored in clear.",
            hint=f"Set STORAGE_KEYS ({_NEW_KEY} makes a key), unless the disk or the bucket is encrypted.",
            id="smtpproxy.W021",
        )


def lease() -> Iterator[CheckMessage]:
    """A lease that runs out during an attempt lets a second worker send the same message (DEL-2)."""
    if settings.DELIVERY_LEASE < 2 * settings.PROVIDER_TIMEOUT:
        yield Error(
            f"DELIVERY_LEASE ({settings.DELIVERY_LEASE:g} s) is less than twice PROVIDER_TIMEOUT "
            f"({settings.PROVIDER_TIMEOUT:g} s).",
            hint="Raise DELIVERY_LEASE or lower PROVIDER_TIMEOUT.",
            id="smtpproxy.E005",
        )
    visibility = settings.BROKER.redelivery
    if visibility <= settings.DELIVERY_LEASE:
        yield Error(
            f"DELIVERY_LEASE ({settings.DELIVERY_LEASE:g} s) is not below {visibility} s, after which the broker "
            "brings a task again.",
            hint="Lower DELIVERY_LEASE.",
            id="smtpproxy.E006",
        )


def sqs() -> Iterator[CheckMessage]:
    """What the settings alone tell; whether the queues are as they must be is asked where there is a network, when a
    worker starts and in `/readyz` (QUE-3)."""
    if settings.QUEUE_TYPE != "sqs":
        return
    if not settings.SQS_QUEUE_URL or settings.SQS_QUEUE_URL.count("/") < 4:
        yield Error(
            "QUEUE_TYPE=sqs without a queue.",
            hint="Set SQS_QUEUE_URL to the URL of a queue, such as "
            "https://sqs.eu-central-1.amazonaws.com/123456789012/mail; docs/brokers.md makes them.",
            id="smtpproxy.E011",
        )
    elif settings.SQS_QUEUE_URL.endswith(".fifo") or settings.SQS_DLQ_URL.endswith(".fifo"):
        yield Error("SQS FIFO queues cannot be used.", hint="Make standard queues.", id="smtpproxy.E012")
    if not settings.BROKER.options["region"]:
        yield Error("The region of the SQS queues is not known.", hint="Set SQS_REGION.", id="smtpproxy.E013")


def certificate() -> Iterator[CheckMessage]:
    """A certificate that cannot be used stops the start, not the first client."""
    chain, key = settings.SMTP["TLS_CERTIFICATE"], settings.SMTP["TLS_KEY"]
    if key and not chain:
        yield Error("SMTP_TLS_KEY without SMTP_TLS_CERTIFICATE.", hint="Set both, or neither.", id="smtpproxy.E007")
    elif chain and settings.SMTP["TLS_MODE"] != "none":
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(chain, key or None, password=_no_password)
        except (OSError, ValueError) as error:
            yield Error(
                f"SMTP_TLS_CERTIFICATE and SMTP_TLS_KEY cannot be used: {error}.",
                hint="Both are PEM files; the certificate comes before its chain, the key has no password.",
                id="smtpproxy.E008",
            )


def plaintext() -> Iterator[CheckMessage]:
    """SMTP-3: without TLS only on a loopback or private address, unless told so."""
    smtp = settings.SMTP
    if smtp["TLS_MODE"] == "none" and not smtp["ALLOW_PUBLIC_PLAINTEXT"]:
        for host in smtp["HOSTS"]:
            if _is_public(host):
                yield Error(
                    f"SMTP_TLS_MODE=none on the public address {host}: passwords would cross the network in clear.",
                    hint="Use TLS, listen on a private address, or set SMTP_ALLOW_PUBLIC_PLAINTEXT=true.",
                    id="smtpproxy.E009",
                )


def nothing_to_listen_on() -> Iterator[CheckMessage]:
    smtp = settings.SMTP
    if not smtp["HOSTS"] or not (smtp["PORT"] or (smtp["TLS_PORT"] and smtp["TLS_MODE"] != "none")):
        yield Error(
            "The listener has no address or no port.",
            hint="Set SMTP_HOSTS, SMTP_PORT or SMTP_TLS_PORT.",
            id="smtpproxy.E010",
        )


def events() -> Iterator[CheckMessage]:
    """A name RabbitMQ would refuse, or take for one of its own exchanges, and a port that is none."""
    name = settings.EVENTS_EXCHANGE
    if settings.EVENTS_URL and (not re.fullmatch(r"[\w.:-]{1,127}", name, re.ASCII) or name.startswith("amq.")):
        yield Error(
            f"EVENTS_EXCHANGE={name!r} cannot be the name of an exchange.",
            hint="Use letters, digits, hyphens, dots, underscores and colons, and do not begin with amq.",
            id="smtpproxy.E030",
        )
    try:
        _ = urlsplit(settings.EVENTS_URL).port
    except ValueError:
        yield Error("EVENTS_URL is no URL.", hint="Give amqp://user:password@host:5672/vhost.", id="smtpproxy.E031")


def notice_sender() -> Iterator[CheckMessage]:
    """An address that is none would cost every report and digest, and be found out with the first failure."""
    if settings.NOTICE_FROM and not _ADDRESS.fullmatch(settings.NOTICE_FROM):
        yield Error(
            f"NOTICE_FROM={settings.NOTICE_FROM!r} is not an address.",
            hint="Give one in ASCII, without a name, such as mailer-daemon@mail.example.com.",
            id="smtpproxy.E021",
        )


def ingest() -> Iterator[CheckMessage]:
    """A setting of the door for RabbitMQ that nobody would ever ask for, and queues that would feed each other."""
    given = settings.INGEST
    queues: set[str] = {*given["QUEUES"]}
    besides = ("REPLY_QUEUE", "DEAD_LETTER_QUEUE", "S3_BUCKET")
    if not queues and (named := [name for name in besides if given[name]]):
        yield Error(
            f"INGEST_{named[0]} without a queue to read.", hint="Set INGEST_QUEUES, or neither.", id="smtpproxy.E014"
        )
    dead = {str(given["DEAD_LETTER_QUEUE"] or f"{queue}.dead") for queue in queues}
    replies = {str(given["REPLY_QUEUE"])}
    if twice := (queues & dead) | (queues & replies) | (dead & replies):
        yield Error(
            f"The queue {min(twice)} is read from and written to.",
            hint="INGEST_QUEUES, INGEST_REPLY_QUEUE and dead letters need queues of their own.",
            id="smtpproxy.E015",
        )


CHECKS: tuple[Callable[[], Iterator[CheckMessage]], ...] = (
    credential_keys,
    message_store,
    storage_keys,
    lease,
    sqs,
    certificate,
    plaintext,
    nothing_to_listen_on,
    events,
)


@register()
def configuration(**_: Any) -> list[CheckMessage]:
    return [found for check in CHECKS for found in check()]


@register(deploy=True)
def deployment(**_: Any) -> list[CheckMessage]:
    return [*shared_keys(), *bodies_in_clear()]


@register(Tags.database)
def tenant_wall(databases: Collection[str] | None = None, **_: Any) -> list[CheckMessage]:
    """Row-level security as the second wall between tenants (SEC-2); asked with `check --database default`."""
    if not databases or connection.vendor != "postgresql":
        return []
    try:
        executor = MigrationExecutor(connection)
        if executor.migration_plan(executor.loader.graph.leaf_nodes()):
            return []  # `migrate` puts it up, or says why it cannot
        problem = wall.problem_with_role() if settings.DB_WEB_ROLE else "DB_WEB_ROLE is none."
    except DatabaseError as error:
        return [Error(f"The database cannot be asked: {type(error).__name__}.", id="smtpproxy.E023")]
    hint = "See docs/security.md: a superuser of PostgreSQL can make the role, then run `migrate`."
    return [Warning(f"Tenants are not kept apart by the database: {problem}", hint=hint, id="smtpproxy.W022")] * bool(
        problem
    )


def _can_write(folder: Path) -> bool:
    """Whether it, or the nearest folder above that exists, lets us write."""
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    return existing.is_dir() and os.access(existing, os.W_OK | os.X_OK)


def _is_public(host: str) -> bool:
    if host in _ANY:
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host != "localhost"
    return not (address.is_private or address.is_loopback)


def _no_password() -> str:
    """Without it OpenSSL would ask for one at the terminal."""
    return ""
