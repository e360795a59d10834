"""OPS-4: every setting reaches what it configures. What that then does is tested beside the code that does it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from smtpproxy import settings

PROJECT = Path(__file__).resolve().parents[2]
KEYS = "MDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDA=,MTExMTExMTExMTExMTExMTExMTExMTExMTExMTExMTE="
CAPS = {"outbound.large": 4, "outbound.retry": 2}
_DATABASE = "s.DATABASES['default']"
_S3 = "s.STORAGES['messages']['OPTIONS']"

# What is set, the expression it shows in, and what that then is.
EFFECTS = {
    "DEBUG": ("true", "s.DEBUG", True),
    "DATA_DIR": ("{folder}/data", "str(s.DATA_DIR)", "{folder}/data"),
    "SECRET_KEY": ("hunter2", "s.SECRET_KEY", "hunter2"),
    "SECRET_KEY_FALLBACKS": ("old,older", "s.SECRET_KEY_FALLBACKS", ["old", "older"]),
    "CREDENTIAL_KEYS": (KEYS, "s.CREDENTIAL_KEYS", KEYS.split(",")),
    "ALLOWED_HOSTS": ("a.example,b.example", "s.ALLOWED_HOSTS", ["a.example", "b.example"]),
    "CSRF_TRUSTED_ORIGINS": ("https://a.example", "s.CSRF_TRUSTED_ORIGINS", ["https://a.example"]),
    "API_ACCESS_MINUTES": ("5", "s.API_ACCESS_MINUTES", 5),
    "API_REFRESH_DAYS": ("6", "s.API_REFRESH_DAYS", 6),
    "API_REQUESTS_PER_MINUTE": ("7", "s.API_REQUESTS_PER_MINUTE", 7),
    "WEB_HOST": ("::1", "g.bind", "[::1]:8123"),
    "WEB_PORT": ("8123", "g.bind", "[::1]:8123"),
    "WEB_WORKERS": ("3", "g.workers", 3),
    "WEB_THREADS": ("5", "g.threads", 5),
    "WEB_PUBLIC_URL": ("https://mail.example/", "s.WEB_PUBLIC_URL", "https://mail.example"),
    "WEB_HTTPS": ("true", "[s.SESSION_COOKIE_SECURE, s.CSRF_COOKIE_SECURE, s.SECURE_SSL_REDIRECT]", [True] * 3),
    "SESSION_MAX_AGE": ("3600", "[s.SESSION_MAX_AGE, s.SESSION_COOKIE_AGE]", [3600, 3600]),
    "SESSION_IDLE_TIMEOUT": ("60", "s.SESSION_IDLE_TIMEOUT", 60),
    "PASSWORD_RESET_TIMEOUT": ("61", "s.PASSWORD_RESET_TIMEOUT", 61),
    "INVITATION_MAX_AGE": ("62", "s.INVITATION_MAX_AGE", 62),
    "DATABASE_URL": ("postgres://u:p@h:1/d", f"[{_DATABASE}[x] for x in ('HOST', 'PORT', 'NAME')]", ["h", 1, "d"]),
    "DB_CONNECT_TIMEOUT": ("7", f"{_DATABASE}['OPTIONS']['connect_timeout']", 7),
    "DB_STATEMENT_TIMEOUT": ("8", f"{_DATABASE}['OPTIONS']['options']", "-c statement_timeout=8000"),
    "DB_WEB_ROLE": ("tenants", "s.DB_WEB_ROLE", "tenants"),
    "STORAGE_TYPE": ("s3", "s.STORAGES['messages']['BACKEND'].rpartition('.')[2]", "MessageS3Storage"),
    "STORAGE_PATH": ("{folder}/mail", "str(s.STORAGE_PATH)", "{folder}/mail"),
    "STORAGE_KEYS": (KEYS, "s.STORAGE_KEYS", KEYS.split(",")),
    "STORAGE_TIMEOUT": ("9", "s.STORAGE_TIMEOUT", 9),
    "STORAGE_MIN_FREE_MB": ("7", "s.STORAGE_MIN_FREE_MB", 7),
    "STORAGE_MIN_FREE_PERCENT": ("3", "s.STORAGE_MIN_FREE_PERCENT", 3),
    "S3_BUCKET": ("bucket", f"{_S3}['bucket_name']", "bucket"),
    "S3_PREFIX": ("prefix", f"{_S3}['location']", "prefix"),
    "S3_REGION": ("region", f"{_S3}['region_name']", "region"),
    "S3_ENDPOINT": ("https://s3.example", f"{_S3}['endpoint_url']", "https://s3.example"),
    "QUEUE_TYPE": ("redis", "s.CELERY_BROKER_URL", "rediss://:p@h:2/3"),
    "REDIS_URL": ("rediss://:p@h:2/3", "[s.SHARED_STATE_URL, c.conf.broker_url]", ["rediss://:p@h:2/3"] * 2),
    "RABBITMQ_URL": ("amqps://u:p@h/v", "s.RABBITMQ_URL", "amqps://u:p@h/v"),  # those below: see test_brokers.py
    "SQS_QUEUE_URL": ("https://sqs.example/1/mail/", "s.SQS_QUEUE_URL", "https://sqs.example/1/mail"),
    "SQS_DLQ_URL": ("https://sqs.example/1/dead", "s.SQS_DLQ_URL", "https://sqs.example/1/dead"),
    "SQS_REGION": ("eu-central-1", "s.SQS_REGION", "eu-central-1"),
    "SQS_WAIT_TIME": ("3", "s.SQS_WAIT_TIME", 3),
    "ENQUEUE_FAILURE": ("accept", "s.ENQUEUE_FAILURE", "accept"),
    "QUEUE_MAX_DEPTH": ("99", "s.QUEUE_MAX_DEPTH", 99),
    "QUEUE_LARGE_SIZE": ("77", "s.QUEUE_LARGE_SIZE", 77),
    "QUEUE_MOST_AT_ONCE": ("outbound.large=4, outbound.retry=2", "s.QUEUE_MOST_AT_ONCE", CAPS),
    "WORKER_QUEUES": ("events,webhooks", "s.WORKER_QUEUES", ["events", "webhooks"]),
    "WORKER_CONCURRENCY": ("6", "c.conf.worker_concurrency", 6),
    "SWEEP_INTERVAL": ("11", "c.conf.beat_schedule['ring-due']['schedule']", 11),
    "DELIVERY_BATCH": ("12", "s.DELIVERY_BATCH", 12),
    "DELIVERY_THREADS": ("13", "s.DELIVERY_THREADS", 13),
    "DELIVERY_LEASE": ("100", "[s.DELIVERY_LEASE, c.conf.task_time_limit]", [100, 90]),
    "DELIVERY_RETRY_SCHEDULE": ("1,2", "s.DELIVERY_RETRY_SCHEDULE", [1, 2]),
    "DELIVERY_MAX_AGE": ("61", "s.DELIVERY_MAX_AGE", 61),
    "DELIVERY_MAX_CLAIMS": ("4", "s.DELIVERY_MAX_CLAIMS", 4),
    "DELIVERY_PREPARE_TIMEOUT": ("14", "s.DELIVERY_PREPARE_TIMEOUT", 14),
    "DELIVERY_UNHEALTHY_PAUSE": ("15", "s.DELIVERY_UNHEALTHY_PAUSE", 15),
    "SCHEDULE_MAX_DAYS": ("31", "s.SCHEDULE_MAX_DAYS", 31),
    "NOTICE_FROM": ("bounces@acme.example", "s.NOTICE_FROM", "bounces@acme.example"),
    "NOTICE_DIGEST_INTERVAL": ("60", "s.NOTICE_DIGEST_INTERVAL", 60),
    "NOTICE_MOST_REPORTS": ("61", "s.NOTICE_MOST_REPORTS", 61),
    "PROVIDER_TIMEOUT": ("16", "s.PROVIDER_TIMEOUT", 16),
    "PROVIDER_PRIVATE_NETWORKS": ("true", "s.PROVIDER_PRIVATE_NETWORKS", True),
    "CONSISTENCY_REPAIR": ("true", "s.CONSISTENCY_REPAIR", True),
    "RETENTION_RATE": ("17", "s.RETENTION_RATE", 17),
    "STDOUT_PROVIDER_ALLOWED": ("true", "s.STDOUT_PROVIDER_ALLOWED", True),
    "EVENTS_URL": ("amqps://u:p@h:1/v", "s.EVENTS_URL", "amqps://u:p@h:1/v"),
    "EVENTS_EXCHANGE": ("told", "s.EVENTS_EXCHANGE", "told"),
    "WEBHOOK_TIMEOUT": ("17", "s.WEBHOOK_TIMEOUT", 17),
    "WEBHOOK_PRIVATE_NETWORKS": ("true", "s.WEBHOOK_PRIVATE_NETWORKS", True),
    "SMTP_THREADS": ("9", "s.SMTP_THREADS", 9),
    "SMTP_ACCEPT_TIMEOUT": ("17", "s.SMTP_ACCEPT_TIMEOUT", 17),
    "INGEST_URL": ("amqps://u:p@h/i", "s.INGEST['URL']", "amqps://u:p@h/i"),
    "INGEST_QUEUES": ("mail = crm@acme,b=c", "s.INGEST['QUEUES']", {"mail": "crm@acme", "b": "c"}),
    "INGEST_DECLARE": ("false", "s.INGEST['DECLARE']", False),
    "INGEST_PREFETCH": ("7", "s.INGEST['PREFETCH']", 7),
    "INGEST_REPLY_QUEUE": ("told", "s.INGEST['REPLY_QUEUE']", "told"),
    "INGEST_DEAD_LETTER_QUEUE": ("dead", "s.INGEST['DEAD_LETTER_QUEUE']", "dead"),
    "INGEST_S3_BUCKET": ("parts", "s.INGEST['S3_BUCKET']", "parts"),
    "INGEST_PRIVATE_NETWORKS": ("true", "s.INGEST['PRIVATE_NETWORKS']", True),
    "INGEST_FETCH_TIMEOUT": ("18", "s.INGEST['FETCH_TIMEOUT']", 18),
    "INGEST_HEALTH_PORT": ("9003", "s.INGEST_HEALTH_PORT", 9003),
    "HEALTH_HOST": ("127.0.0.2", "s.HEALTH_HOST", "127.0.0.2"),
    "SMTP_HEALTH_PORT": ("9001", "s.SMTP_HEALTH_PORT", 9001),
    "WORKER_HEALTH_PORT": ("9002", "s.WORKER_HEALTH_PORT", 9002),
    "METRICS_TOKEN": ("secret", "s.METRICS_TOKEN", "secret"),
    "METRICS_NETWORKS": ("10.0.0.0/8", "s.METRICS_NETWORKS", ["10.0.0.0/8"]),
    "LOG_LEVEL": ("ERROR", "logging.getLogger().level", 40),
    "LOG_SAMPLE_RATE": ("0.25", "s.LOGGING['sample_rate']", 0.25),
    "LOG_OUTPUT": ("stdout", "s.LOGGING['output']", ["stdout"]),
}
LISTENER = {
    "HOSTNAME": ("mx.example", "mx.example"),
    "HOSTS": ("127.0.0.1,::1", ["127.0.0.1", "::1"]),
    "PORT": ("1025", 1025),
    "TLS_PORT": ("1465", 1465),
    "PROCESSES": ("2", 2),
    "TLS_MODE": ("none", "none"),
    "ALLOW_PUBLIC_PLAINTEXT": ("true", True),
    "TLS_CERTIFICATE": ("/c.pem", "/c.pem"),
    "TLS_KEY": ("/k.pem", "/k.pem"),
    "MAX_MESSAGE_SIZE": ("2048", 2048),
    "MAX_RECIPIENTS": ("2", 2),
    "MAX_RECEIVED_HEADERS": ("3", 3),
    "MAX_CONNECTIONS": ("4", 4),
    "MAX_CONNECTIONS_PER_ADDRESS": ("5", 5),
    "MAX_NEW_CONNECTIONS_PER_MINUTE": ("6", 6),
    "LIMIT_EXEMPT_NETWORKS": ("10.0.0.0/8", ["10.0.0.0/8"]),
    "MAX_MESSAGES_PER_CONNECTION": ("7", 7),
    "MAX_AUTH_FAILURES": ("8", 8),
    "AUTH_FAILURE_WINDOW": ("9", 9),
    "IDLE_TIMEOUT_BEFORE_AUTH": ("10", 10),
    "IDLE_TIMEOUT": ("11", 11),
    "DATA_TIMEOUT": ("12", 12),
    "DATA_MIN_RATE": ("13", 13),
    "SPOOL_THRESHOLD": ("1025", 1025),
    "SPOOL_PATH": ("/spool", "/spool"),
    "BARE_LF": ("reject", "reject"),
    "PROXY_PROTOCOL_NETWORKS": ("192.0.2.1", ["192.0.2.1/32"]),
    "DRAIN_TIMEOUT": ("14", 14),
}
EFFECTS |= {f"SMTP_{name}": (raw, f"s.SMTP[{name!r}]", value) for name, (raw, value) in LISTENER.items()}

SCRIPT = """
import json, logging, sys
from django.conf import settings as s
from smtpproxy import gunicorn_config as g
from smtpproxy.celery import app as c
print(json.dumps({name: eval(shown) for name, shown in json.load(sys.stdin).items()}))
"""


@pytest.fixture(scope="module")
def effective(tmp_path_factory):
    """What every expression gives in a process with every setting changed, and the folder named in them."""
    folder = str(tmp_path_factory.mktemp("settings"))
    values = {name: raw.replace("{folder}", folder) for name, (raw, _, _) in EFFECTS.items()}
    run = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        check=True,
        cwd=PROJECT,
        input=json.dumps({name: shown for name, (_, shown, _) in EFFECTS.items()}),
        env={"PATH": os.environ["PATH"], "DJANGO_SETTINGS_MODULE": "smtpproxy.settings", **values},
        stdout=subprocess.PIPE,
        text=True,
    )
    return json.loads(run.stdout), folder


@pytest.mark.parametrize("name", sorted(EFFECTS))
def test_a_setting_takes_effect(effective, name):
    found, folder = effective
    assert found[name] == json.loads(json.dumps(EFFECTS[name][2]).replace("{folder}", folder))


def test_every_setting_is_in_the_table():
    assert set(EFFECTS) == set(settings.env.declared) - {f"{secret}_FILE" for secret in settings.env.secrets}


def test_no_value_in_the_table_is_the_default():
    same = {name for name, (raw, _, _) in EFFECTS.items() if raw == str(settings.env.declared[name])}
    assert same == set()
