"""Every setting, in reading order. Each is an environment variable or a line in `.env`; see docs/settings.md."""

import sys
import warnings
from pathlib import Path
from typing import Any
from urllib.parse import quote

from delivery import queues
from smtpproxy import keys, look, metrics_folder, private, sockets
from smtpproxy.brokers import configuration as brokers
from smtpproxy.brokers import names
from smtpproxy.env import Env
from smtpproxy.security import STRICT

BASE_DIR = Path(__file__).resolve().parent.parent
env = Env(BASE_DIR / ".env")

# --- The installation -------------------------------------------------------------------------------------------
DEBUG = env.bool("DEBUG", False)
DATA_DIR = env.path("DATA_DIR", BASE_DIR / "var")
private.make_folder(DATA_DIR)
metrics_folder.prepare(DATA_DIR, sys.argv)
SECRET_KEY = env.secret("SECRET_KEY") or keys.kept(DATA_DIR / "keys" / "secret_key", keys.secret_key)
# What SECRET_KEY was before: sessions signed with these go on.
SECRET_KEY_FALLBACKS = [key.strip() for key in env.secret("SECRET_KEY_FALLBACKS").split(",") if key.strip()]
_credential_keys = env.secret("CREDENTIAL_KEYS") or keys.kept(
    DATA_DIR / "keys" / "credential_keys", keys.credential_key
)
# Fernet keys for what is encrypted in the database: the first encrypts, all decrypt (PRV-12).
CREDENTIAL_KEYS = [key.strip() for key in _credential_keys.split(",") if key.strip()]
# Whether both keys are given, which several machines that share a database need; see checks.py.
KEYS_CONFIGURED = bool(env.secret("SECRET_KEY") and env.secret("CREDENTIAL_KEYS"))

# --- Web --------------------------------------------------------------------------------------------------------
ALLOWED_HOSTS = env.list("ALLOWED_HOSTS", ["localhost", "127.0.0.1", "[::1]"])
CSRF_TRUSTED_ORIGINS = env.list("CSRF_TRUSTED_ORIGINS")
WEB_HOST = env.str("WEB_HOST", "127.0.0.1")
WEB_PORT = env.int("WEB_PORT", 8000, low=1, high=65535)
WEB_WORKERS = env.int("WEB_WORKERS", 2, low=1, high=64)
WEB_THREADS = env.int("WEB_THREADS", 4, low=1, high=64)
WEB_PUBLIC_URL = env.origin("WEB_PUBLIC_URL", "")  # how others reach the web; empty: as they say they do
WEB_HTTPS = env.bool("WEB_HTTPS", False)  # behind a proxy that speaks TLS and sets X-Forwarded-Proto
if WEB_HTTPS:
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
    SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = True
    SECURE_SSL_REDIRECT = True
    SECURE_HSTS_SECONDS = 31_536_000

INSTALLED_APPS = [
    "accounts",
    "providers",
    "delivery",
    "relay",
    "smtpproxy",
    "anymail",
    "unfold.apps.BasicAppConfig",
    "unfold.contrib.filters",
    "unfold.contrib.forms",
    "smtpproxy.admin_config.AdminConfig",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "csp",
    "django_filters",
    "rest_framework",
    "drf_spectacular",
    "drf_spectacular_sidecar",
]
MIDDLEWARE = [
    "smtpproxy.security.permissions_policy",
    "smtpproxy.security.PolicyMiddleware",
    "smtpproxy.probes.ProbeMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.middleware.gzip.GZipMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "accounts.session_middleware.UserSessionMiddleware",
    "accounts.wall_middleware.TenantWallMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
CONTENT_SECURITY_POLICY = {"DIRECTIVES": STRICT}
ROOT_URLCONF = "smtpproxy.urls"
WSGI_APPLICATION = "smtpproxy.wsgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]
STATIC_URL = "static/"
STATIC_ROOT = BASE_DIR / "staticfiles"  # filled by `collectstatic` in the container image
WHITENOISE_USE_FINDERS = not STATIC_ROOT.is_dir()
warnings.filterwarnings("ignore", "No directory at", UserWarning)  # whitenoise, where there is no such folder
LANGUAGE_CODE = "en"
TIME_ZONE = "UTC"
USE_TZ = True
USE_I18N = False
FORMAT_MODULE_PATH = "accounts.formats"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# --- People -----------------------------------------------------------------------------------------------------
AUTH_USER_MODEL = "accounts.User"
LOGIN_URL, LOGIN_REDIRECT_URL = "admin:login", "admin:index"
PASSWORD_HASHERS = ["accounts.hashers.ModestArgon2PasswordHasher", "django.contrib.auth.hashers.PBKDF2PasswordHasher"]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 12}},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]
SESSION_MAX_AGE = env.seconds("SESSION_MAX_AGE", 12 * 3600, low=60)  # then one signs in anew, used or not
SESSION_IDLE_TIMEOUT = env.seconds("SESSION_IDLE_TIMEOUT", 2 * 3600, low=60)  # without a request in the admin
SESSION_COOKIE_AGE = int(SESSION_MAX_AGE)
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = CSRF_COOKIE_SAMESITE = "Lax"
PASSWORD_RESET_TIMEOUT = env.int("PASSWORD_RESET_TIMEOUT", 3600, low=60)  # seconds a link of a mail is good for
INVITATION_MAX_AGE = env.int("INVITATION_MAX_AGE", 7 * 86_400, low=60)

# --- Admin and API ----------------------------------------------------------------------------------------------
UNFOLD = {
    "SITE_TITLE": "smtpproxy",
    "SITE_HEADER": "smtpproxy",
    "SITE_ICON": "smtpproxy.look.icon",
    "SITE_FAVICONS": [{"rel": "icon", "type": "image/svg+xml", "href": "smtpproxy.look.icon"}],
    "SITE_URL": None,
    "SHOW_VIEW_ON_SITE": False,
    "STYLES": ["smtpproxy.look.style"],
    "COLORS": look.COLORS,
    "SIDEBAR": {
        "show_search": True,
        "command_search": True,
        "show_all_applications": False,
        "navigation": "smtpproxy.navigation.navigation",
    },
    "ACCOUNT": {"navigation": "accounts.people_pages.site.menu"},
}
API_REQUESTS_PER_MINUTE = env.int("API_REQUESTS_PER_MINUTE", 100, low=1)  # of one key, session or address (LIM-2)
API_ACCESS_MINUTES = env.int("API_ACCESS_MINUTES", 15, low=1, high=24 * 60)
API_REFRESH_DAYS = env.int("API_REFRESH_DAYS", 7, low=1, high=365)
REST_FRAMEWORK: dict[str, Any] = {
    "DEFAULT_AUTHENTICATION_CLASSES": ["accounts.api.authentication.BearerAuthentication"],
    "DEFAULT_PERMISSION_CLASSES": ["accounts.api.permissions.MayDo"],
    "DEFAULT_PARSER_CLASSES": ["accounts.api.parsers.StrictJSON"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_FILTER_BACKENDS": [f"accounts.api.filters.{name}" for name in ("Filters", "Search", "Ordering")],
    "DEFAULT_PAGINATION_CLASS": "accounts.api.pagination.Keyset",
    "DEFAULT_SCHEMA_CLASS": "accounts.api.schema.Schema",
    "EXCEPTION_HANDLER": "accounts.api.errors.handle",
    "UNAUTHENTICATED_USER": None,
}
SPECTACULAR_SETTINGS: dict[str, Any] = {
    "TITLE": "smtpproxy",
    "DESCRIPTION": "Send mail, see what became of it, and run what sends it. Described in docs/api.md.",
    "VERSION": "1",
    "SCHEMA_PATH_PREFIX": "/api/v1",
    "COMPONENT_SPLIT_REQUEST": True,
    "SERVE_INCLUDE_SCHEMA": False,
    "SERVE_AUTHENTICATION": ["accounts.api.authentication.Nobody"],
    "SERVE_PERMISSIONS": ["rest_framework.permissions.AllowAny"],
    # Its assets are ours. The page needs 'unsafe-inline' for styles and data: for images, and no script beside 'self'.
    "ENUM_NAME_OVERRIDES": {
        "AccountStatus": "accounts.models.Account.Status",
        "MessageStatus": "delivery.models.MessageStatus",
        "RecipientStatus": "delivery.models.RecipientStatus",
        "AttemptStatus": "delivery.models.DeliveryLog.Status",
        "BulkActionStatus": "delivery.models.BulkAction.Status",
        "BulkActionKind": "delivery.models.BulkAction.Action",
        "SentStatus": ["queued", "scheduled"],
        "CopyStatus": "delivery.models.ArchiveCopy.Status",
        "WebhookDeliveryStatus": "delivery.models.WebhookDelivery.Status",
        "ImportedStatus": ["added", "known", "refused"],
        "ServiceStatus": ["ok", "unavailable"],
        "CheckResult": ["ok", "warning", "failed"],
    },
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "SWAGGER_UI_SETTINGS": {"persistAuthorization": False, "displayRequestDuration": True},
}

# --- Database ---------------------------------------------------------------------------------------------------
DB_CONNECT_TIMEOUT = env.int("DB_CONNECT_TIMEOUT", 5, low=1)
DB_STATEMENT_TIMEOUT = env.int("DB_STATEMENT_TIMEOUT", 30, low=1)
DATABASES: dict[str, dict[str, Any]] = {
    "default": {
        **env.database("DATABASE_URL", f"sqlite:///{quote(str(DATA_DIR / 'smtpproxy.sqlite3'))}"),
        "CONN_MAX_AGE": None,
        "CONN_HEALTH_CHECKS": True,
    }
}
if DATABASES["default"]["ENGINE"].endswith("sqlite3"):
    # SQLite would make it readable for all; the files it puts beside it get the same mode.
    if DATABASES["default"]["NAME"] != ":memory:":
        private.make_file(Path(DATABASES["default"]["NAME"]))
    DATABASES["default"]["OPTIONS"] = {
        # IMMEDIATE: a transaction that will write waits for its turn instead of failing when it comes to writing.
        "transaction_mode": "IMMEDIATE",
        "timeout": 20,
        # FULL: what was committed survives a power cut (ACC-2); WAL: readers do not wait for the writer.
        "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;",
    }
else:
    DATABASES["default"].setdefault("OPTIONS", {})["connect_timeout"] = DB_CONNECT_TIMEOUT
    # A statement that waits longer than this is given up; the client gets 451 at once (ACC-7).
    DATABASES["default"]["OPTIONS"]["options"] = f"-c statement_timeout={DB_STATEMENT_TIMEOUT * 1000}"

# The role that answers requests of tenants' people and sees their tenant only; "none": row-level security stays off.
DB_WEB_ROLE = env.str("DB_WEB_ROLE", "") or f"{DATABASES['default']['NAME']}_web"[-63:]
if DB_WEB_ROLE.lower() == "none" or DATABASES["default"]["ENGINE"].endswith("sqlite3"):
    DB_WEB_ROLE = ""

# --- Message store ----------------------------------------------------------------------------------------------
STORAGE_TYPE = env.choice("STORAGE_TYPE", "local", ["local", "s3"])
STORAGE_PATH = env.path("STORAGE_PATH", DATA_DIR / "messages")
STORAGE_TIMEOUT = env.seconds("STORAGE_TIMEOUT", 20, low=0.1)
# Keys for bodies: the first encrypts, all decrypt; none: bodies are stored as they are (STO-4).
STORAGE_KEYS = [key.strip() for key in env.secret("STORAGE_KEYS").split(",") if key.strip()]
# With less than either, new mail is put off (ACC-7).
STORAGE_MIN_FREE_MB = env.int("STORAGE_MIN_FREE_MB", 1024)
STORAGE_MIN_FREE_PERCENT = env.int("STORAGE_MIN_FREE_PERCENT", 5, high=99)
S3_BUCKET = env.str("S3_BUCKET", "")
S3_PREFIX = env.str("S3_PREFIX", "")
S3_REGION = env.str("S3_REGION", "")
S3_ENDPOINT = env.str("S3_ENDPOINT", "")
_messages_storage: dict[str, Any]
if STORAGE_TYPE == "local":
    _messages_storage = {
        "BACKEND": "delivery.storage.DurableFileSystemStorage",
        "OPTIONS": {"location": str(STORAGE_PATH)},
    }
else:
    _messages_storage = {
        "BACKEND": "delivery.storage_s3.MessageS3Storage",
        "OPTIONS": {
            "bucket_name": S3_BUCKET,
            "location": S3_PREFIX,
            "region_name": S3_REGION or None,
            "endpoint_url": S3_ENDPOINT or None,
        },
    }
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    # Collected files have names that change with what is in them, so that browsers may keep them for ever.
    "staticfiles": {
        "BACKEND": "whitenoise.storage.CompressedManifestStaticFilesStorage"
        if STATIC_ROOT.is_dir() or "collectstatic" in sys.argv
        else "whitenoise.storage.CompressedStaticFilesStorage"
    },
    "messages": _messages_storage,
}

# --- Broker -----------------------------------------------------------------------------------------------------
QUEUE_TYPE = env.choice("QUEUE_TYPE", "embedded", ["embedded", "redis", "sqs", "rabbitmq"])
EMBEDDED_SOCKET = sockets.broker_socket(DATA_DIR)
REDIS_URL = env.url("REDIS_URL", "redis://127.0.0.1:6379/0", ["redis", "rediss", "unix"])
RABBITMQ_URL = env.url("RABBITMQ_URL", "amqp://guest:guest@127.0.0.1:5672//", ["amqp", "amqps"])
SQS_QUEUE_URL = env.origin("SQS_QUEUE_URL", "")
SQS_DLQ_URL = env.origin("SQS_DLQ_URL", "")
SQS_REGION = env.str("SQS_REGION", "")
SQS_WAIT_TIME = env.int("SQS_WAIT_TIME", 20, low=1, high=20)
ENQUEUE_FAILURE = env.choice("ENQUEUE_FAILURE", "reject", ["reject", "accept"])
# With more messages waiting, new mail is put off until a fifth of them is gone (ACC-7).
QUEUE_MAX_DEPTH = env.int("QUEUE_MAX_DEPTH", 50_000, low=1)
QUEUE_LARGE_SIZE = env.int("QUEUE_LARGE_SIZE", 256 * 1024)  # octets from which on a message goes to outbound.large
# Messages of a queue under way at once, over all workers; operators may say otherwise while everything runs (QUE-5).
QUEUE_MOST_AT_ONCE = env.counts("QUEUE_MOST_AT_ONCE", queues.MAIL)
# Limits, health and the sweep's note are on a Redis-compatible server whatever the broker (QUE-1).
SHARED_STATE_URL = sockets.redis_url(EMBEDDED_SOCKET) if QUEUE_TYPE == "embedded" else REDIS_URL

if QUEUE_TYPE == "rabbitmq":
    BROKER = brokers.rabbitmq(RABBITMQ_URL)
elif QUEUE_TYPE == "sqs":
    BROKER = brokers.sqs(SQS_QUEUE_URL, names.region(SQS_REGION, SQS_QUEUE_URL), SQS_WAIT_TIME)
else:
    BROKER = brokers.redis(sockets.broker_url(SHARED_STATE_URL))
CELERY_BROKER_URL = BROKER.url
CELERY_BROKER_TRANSPORT_OPTIONS = BROKER.options
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_BROKER_CONNECTION_MAX_RETRIES = None
CELERY_BROKER_HEARTBEAT = brokers.HEARTBEAT
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_ACKS_LATE = True
CELERY_TASK_REJECT_ON_WORKER_LOST = True
CELERY_TASK_DEFAULT_QUEUE = queues.MAINTENANCE
CELERY_TASK_QUEUES = BROKER.queues
CELERY_TASK_ROUTES = {
    "delivery.tasks.deliver": {"queue": queues.FRESH},
    "delivery.tasks.*": {"queue": queues.MAINTENANCE},
}
CELERY_TASK_PUBLISH_RETRY = False  # ringing is tried again by delivery.queue, which logs each try (ACC-3)
CELERY_WORKER_CONSUMER = "smtpproxy.consumer:Consumer"
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
WORKER_QUEUES = env.choices("WORKER_QUEUES", [], queues.NAMES)  # what this worker looks at; empty: all; see celery.py
CELERY_WORKER_CONCURRENCY = env.int("WORKER_CONCURRENCY", 4, low=1, high=256)
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
CELERY_WORKER_ENABLE_REMOTE_CONTROL = False
CELERY_WORKER_SEND_TASK_EVENTS = False
CELERY_WORKER_SOFT_SHUTDOWN_TIMEOUT = 25
CELERY_TASK_SERIALIZER = "json"
CELERY_ACCEPT_CONTENT = ["json"]
SWEEP_INTERVAL = env.seconds("SWEEP_INTERVAL", 1, low=0.2)
# The scheduler runs it by itself, so that it does not wait for a worker; see scheduler.py.
CELERY_BEAT_SCHEDULER = "smtpproxy.scheduler:Scheduler"
CELERY_BEAT_SCHEDULE = {"ring-due": {"task": "delivery.tasks.ring_due", "schedule": SWEEP_INTERVAL}}

# --- Delivery ---------------------------------------------------------------------------------------------------
DELIVERY_BATCH = env.int("DELIVERY_BATCH", 48, low=1, high=1000)
DELIVERY_THREADS = env.int("DELIVERY_THREADS", 24, low=1, high=256)
DELIVERY_LEASE = env.seconds("DELIVERY_LEASE", 600, low=2)
DELIVERY_RETRY_SCHEDULE = env.ints("DELIVERY_RETRY_SCHEDULE", [30, 60, 120, 300, 900], high=30 * 86_400)
DELIVERY_MAX_AGE = env.seconds("DELIVERY_MAX_AGE", 72 * 3600, low=60)
DELIVERY_MAX_CLAIMS = env.int("DELIVERY_MAX_CLAIMS", 3, low=1, high=100)
DELIVERY_PREPARE_TIMEOUT = env.seconds("DELIVERY_PREPARE_TIMEOUT", 20, low=0.1)
SCHEDULE_MAX_DAYS = env.int("SCHEDULE_MAX_DAYS", 30, low=1, high=366)  # how far ahead X-Send-At may lie (DEL-11)
NOTICE_FROM = env.str("NOTICE_FROM", "")  # empty: MAILER-DAEMON@ the sender's own domain (DEL-10)
NOTICE_DIGEST_INTERVAL = env.seconds("NOTICE_DIGEST_INTERVAL", 900, low=1)
NOTICE_MOST_REPORTS = env.int("NOTICE_MOST_REPORTS", 100, low=1, high=100_000)  # to one sender in an hour
DELIVERY_UNHEALTHY_PAUSE = env.seconds("DELIVERY_UNHEALTHY_PAUSE", 300, low=1)
PROVIDER_TIMEOUT = env.seconds("PROVIDER_TIMEOUT", 30, low=0.1)
PROVIDER_PRIVATE_NETWORKS = env.bool("PROVIDER_PRIVATE_NETWORKS", False)
STDOUT_PROVIDER_ALLOWED = env.bool("STDOUT_PROVIDER_ALLOWED", False)
# The last wall behind the sender's own limits: a task that outlasts it is killed with its process (QUE-6).
CELERY_TASK_TIME_LIMIT = DELIVERY_LEASE * 0.9

# --- Events and webhooks ----------------------------------------------------------------------------------------
EVENTS_URL = env.url("EVENTS_URL", "", ["amqp", "amqps"])  # empty: nothing is published
EVENTS_EXCHANGE = env.str("EVENTS_EXCHANGE", "mail.events")
WEBHOOK_TIMEOUT = env.seconds("WEBHOOK_TIMEOUT", 15, low=0.1)
WEBHOOK_PRIVATE_NETWORKS = env.bool("WEBHOOK_PRIVATE_NETWORKS", False)

# --- Retention --------------------------------------------------------------------------------------------------
# Messages whose rows or bodies are deleted in a second, at most; 0: as fast as it goes (STO-5).
RETENTION_RATE = env.int("RETENTION_RATE", 1000, low=0)
# Whether the daily check of database and message store mends what it finds (STO-6).
CONSISTENCY_REPAIR = env.bool("CONSISTENCY_REPAIR", False)


# --- SMTP listener ----------------------------------------------------------------------------------------------
def smtp_settings() -> dict[str, Any]:
    """Settings of the listener, read anew at each call, so that SIGHUP picks up a changed `.env` (SMTP-15)."""
    return {
        "HOSTNAME": env.str("SMTP_HOSTNAME", "localhost"),
        "HOSTS": env.list("SMTP_HOSTS", ["127.0.0.1"]),
        "PORT": env.int("SMTP_PORT", 2525, high=65535),
        "TLS_PORT": env.int("SMTP_TLS_PORT", 4650, high=65535),
        "PROCESSES": env.int("SMTP_PROCESSES", 1, low=1, high=64),
        "TLS_MODE": env.choice("SMTP_TLS_MODE", "starttls", ["starttls", "none"]),
        "ALLOW_PUBLIC_PLAINTEXT": env.bool("SMTP_ALLOW_PUBLIC_PLAINTEXT", False),
        "TLS_CERTIFICATE": env.str("SMTP_TLS_CERTIFICATE", ""),
        "TLS_KEY": env.str("SMTP_TLS_KEY", ""),
        "MAX_MESSAGE_SIZE": env.int("SMTP_MAX_MESSAGE_SIZE", 25 * 1024 * 1024, low=1024),
        "MAX_RECIPIENTS": env.int("SMTP_MAX_RECIPIENTS", 1000, low=1),
        "MAX_RECEIVED_HEADERS": env.int("SMTP_MAX_RECEIVED_HEADERS", 50, low=1),
        "MAX_CONNECTIONS": env.int("SMTP_MAX_CONNECTIONS", 1000, low=1),
        "MAX_CONNECTIONS_PER_ADDRESS": env.int("SMTP_MAX_CONNECTIONS_PER_ADDRESS", 50, low=1),
        "MAX_NEW_CONNECTIONS_PER_MINUTE": env.int("SMTP_MAX_NEW_CONNECTIONS_PER_MINUTE", 60, low=1),
        "LIMIT_EXEMPT_NETWORKS": env.networks("SMTP_LIMIT_EXEMPT_NETWORKS"),
        "MAX_MESSAGES_PER_CONNECTION": env.int("SMTP_MAX_MESSAGES_PER_CONNECTION", 1000, low=1),
        "MAX_AUTH_FAILURES": env.int("SMTP_MAX_AUTH_FAILURES", 10, low=1),
        "AUTH_FAILURE_WINDOW": env.seconds("SMTP_AUTH_FAILURE_WINDOW", 300, low=1),
        "IDLE_TIMEOUT_BEFORE_AUTH": env.seconds("SMTP_IDLE_TIMEOUT_BEFORE_AUTH", 30, low=0.1),
        "IDLE_TIMEOUT": env.seconds("SMTP_IDLE_TIMEOUT", 300, low=0.1),
        "DATA_TIMEOUT": env.seconds("SMTP_DATA_TIMEOUT", 600, low=0.1),
        "DATA_MIN_RATE": env.int("SMTP_DATA_MIN_RATE", 512, low=0),  # octets a second, averaged over DATA
        "SPOOL_THRESHOLD": env.int("SMTP_SPOOL_THRESHOLD", 1024 * 1024, low=1024),
        "SPOOL_PATH": str(env.path("SMTP_SPOOL_PATH", DATA_DIR / "spool")),
        "BARE_LF": env.choice("SMTP_BARE_LF", "normalise", ["normalise", "reject"]),
        "PROXY_PROTOCOL_NETWORKS": env.networks("SMTP_PROXY_PROTOCOL_NETWORKS"),
        "DRAIN_TIMEOUT": env.seconds("SMTP_DRAIN_TIMEOUT", 30, low=1),
        "LOG_LEVEL": env.choice("LOG_LEVEL", "INFO", ["DEBUG", "INFO", "WARNING", "ERROR"]),
    }


def reload_smtp_settings() -> dict[str, Any]:
    env.reload()
    return smtp_settings()


SMTP = smtp_settings()
SMTP_RELOAD = reload_smtp_settings
SMTP_THREADS = env.int("SMTP_THREADS", 4, low=1, high=64)  # database connections of one listener process
SMTP_ACCEPT_TIMEOUT = env.seconds("SMTP_ACCEPT_TIMEOUT", 60, low=1)

# --- RabbitMQ as a door -----------------------------------------------------------------------------------------
INGEST: dict[str, Any] = {
    "URL": env.url("INGEST_URL", RABBITMQ_URL, ["amqp", "amqps"]),
    "QUEUES": env.pairs("INGEST_QUEUES"),  # queue=username of the account it belongs to
    "DECLARE": env.bool("INGEST_DECLARE", True),
    "PREFETCH": env.int("INGEST_PREFETCH", 50, low=1, high=1000),
    "REPLY_QUEUE": env.str("INGEST_REPLY_QUEUE", ""),  # empty: only where a message says reply_to
    "DEAD_LETTER_QUEUE": env.str("INGEST_DEAD_LETTER_QUEUE", ""),  # empty: the queue's own name and ".dead"
    "S3_BUCKET": env.str("INGEST_S3_BUCKET", ""),
    "S3_REGION": S3_REGION,
    "S3_ENDPOINT": S3_ENDPOINT,
    "PRIVATE_NETWORKS": env.bool("INGEST_PRIVATE_NETWORKS", False),
    "FETCH_TIMEOUT": env.seconds("INGEST_FETCH_TIMEOUT", 30, low=0.1),
}
INGEST_ON_START = "smtpproxy.probes.serve_ingest"  # called once its queues are being read

# --- Health -----------------------------------------------------------------------------------------------------
HEALTH_HOST = env.str("HEALTH_HOST", "127.0.0.1")
SMTP_ON_START = "smtpproxy.probes.serve_listener"  # called in each listener process once it listens
SMTP_HEALTH_PORT = env.int("SMTP_HEALTH_PORT", 0, high=65535)  # 0: no probe port
INGEST_HEALTH_PORT = env.int("INGEST_HEALTH_PORT", 0, high=65535)
WORKER_HEALTH_PORT = env.int("WORKER_HEALTH_PORT", 0, high=65535)

# --- Metrics ----------------------------------------------------------------------------------------------------
METRICS_TOKEN = env.secret("METRICS_TOKEN")
METRICS_NETWORKS = env.networks("METRICS_NETWORKS", ["127.0.0.0/8", "::1/128"])

# --- Logging ----------------------------------------------------------------------------------------------------
LOG_LEVEL = SMTP["LOG_LEVEL"]
LOG_OUTPUT = env.choices("LOG_OUTPUT", ["stdout"], ["stdout"])
LOGGING_CONFIG = "smtpproxy.logging.configure"
LOG_SAMPLE_RATE = env.share("LOG_SAMPLE_RATE", 1.0)
LOGGING = {"level": LOG_LEVEL, "output": LOG_OUTPUT, "sample_rate": LOG_SAMPLE_RATE}

# --- Nothing misspelt ---------------------------------------------------------------------------------------------
# What `.env` may hold besides: docker-compose.yml fills these in.
COMPOSE_ONLY = ("POSTGRES_PASSWORD", "RABBITMQ_PASSWORD", "PUBLISH_SMTP", "PUBLISH_SMTPS", "PUBLISH_WEB")
env.check_names(
    prefixes=(
        "ALLOWED_",
        "API_",
        "CONSISTENCY_",
        "CREDENTIAL_",
        "CSRF_",
        "DATABASE_",
        "DATA_",
        "DB_",
        "DELIVERY_",
        "ENQUEUE_",
        "EVENTS_",
        "HEALTH_",
        "INGEST_",
        "INVITATION_",
        "LOG_",
        "METRICS_",
        "NOTICE_",
        "PASSWORD_",
        "PROVIDER_",
        "QUEUE_",
        "RABBITMQ_",
        "REDIS_",
        "RETENTION_",
        "S3_",
        "SCHEDULE_",
        "SECRET_",
        "SESSION_",
        "SMTP_",
        "SQS_",
        "STDOUT_",
        "STORAGE_",
        "SWEEP_",
        "WEBHOOK_",
        "WEB_",
        "WORKER_",
    ),
    besides=COMPOSE_ONLY,
)
