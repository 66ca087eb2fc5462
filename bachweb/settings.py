"""Settings. The only module that reads the environment.

Variables a person may set: BACH_DATA_DIR, BACH_HOST, BACH_PORT, BACH_ORIGINS, BACH_TLS,
BACH_TRUSTED_PROXIES, BACH_TIME_ZONE, BACH_MAX_PARALLEL, BACH_PUBLIC_STATUS, BACH_API_READS,
BACH_API_WRITES, BACH_LOG_STREAMS, BACH_ON_STOP, BACH_DRAIN_SECONDS, BACH_TICK_SECONDS,
GPU_SERVICE_URL, OLLAMA_URL, DATABASE_URL (`docs/settings.md`).
"""

import os
import sqlite3
from pathlib import Path

import dj_database_url
from django.core.exceptions import ImproperlyConfigured
from django.utils.translation import gettext_lazy as _

from bachweb import machine
from daemon_app.database import has_wal_bug

BASE_DIR = Path(__file__).resolve().parent.parent


def flag(name: str, default: str = "0") -> bool:
    """Return whether the variable `name` says yes; anything but a plain yes or no is refused."""
    value = os.environ.get(name, default).strip().lower()
    if value in {"1", "yes", "true", "on"}:
        return True
    if value in {"0", "no", "false", "off", ""}:
        return False
    msg = f"{name} must be 1 or 0, not {value!r}"
    raise ImproperlyConfigured(msg)


def number(name: str, default: int, low: int, high: int) -> int:
    """Return the variable `name` as a whole number between `low` and `high`."""
    value = os.environ.get(name, str(default)).strip()
    if not value.isascii() or not value.isdigit() or not low <= int(value) <= high:
        msg = f"{name} must be a whole number from {low} to {high}, not {value!r}"
        raise ImproperlyConfigured(msg)
    return int(value)


def choice(name: str, *known: str) -> str:
    """Return the variable `name`, one of `known`; the first of them when it is not set."""
    value = os.environ.get(name, "").strip().lower() or known[0]
    if value not in known:
        msg = f"{name} must be one of {', '.join(known)}, not {value!r}"
        raise ImproperlyConfigured(msg)
    return value


# ── Where things are ─────────────────────────────────────────────────────────────────────────────
# Everything we write is for this user alone, the database's side files included.
os.umask(0o077)
DATA_DIR = machine.private_directory(Path(os.environ.get("BACH_DATA_DIR") or BASE_DIR / "data"))
RUNS_DIR = machine.private_directory(DATA_DIR / "runs")
LOGS_DIR = machine.private_directory(DATA_DIR / "logs")
SECRET_KEY = machine.secret(DATA_DIR / "secret.key")
# To change the key: rename its file to this, start again; when everybody has signed in anew,
# delete it.
SECRET_KEY_FALLBACKS = machine.old_secrets(DATA_DIR / "secret.key.old")
DEBUG = False

# ── Who may talk to us ───────────────────────────────────────────────────────────────────────────
HOST = os.environ.get("BACH_HOST") or "127.0.0.1"
PORT = number("BACH_PORT", 8000, 1, 65535)
TLS = flag("BACH_TLS")
TRUSTED_PROXIES = machine.networks(os.environ.get("BACH_TRUSTED_PROXIES", "").split(","))
# Further exact origins (scheme://host[:port]) under which people reach this server.
EXTRA_ORIGINS = [o.strip() for o in os.environ.get("BACH_ORIGINS", "").split(",") if o.strip()]
ORIGINS = frozenset(machine.origins("https" if TLS else "http", HOST, PORT, EXTRA_ORIGINS))
# Host names with port are judged by the guard around the whole application (bachweb/asgi.py);
# Django's own list only sees the name.
ALLOWED_HOSTS = sorted({machine.hostname(origin) for origin in ORIGINS})
CSRF_TRUSTED_ORIGINS = sorted(ORIGINS)
PUBLIC_STATUS = flag("BACH_PUBLIC_STATUS", "1")
API_READS_PER_MINUTE = number("BACH_API_READS", 6000, 0, 1_000_000)
API_WRITES_PER_MINUTE = number("BACH_API_WRITES", 3000, 0, 1_000_000)
# Outputs that are followed over REST at one time: in all, and by one token or account.
LOG_STREAMS = number("BACH_LOG_STREAMS", 50, 0, 10_000)
LOG_STREAMS_EACH = 10

# ── The application ──────────────────────────────────────────────────────────────────────────────
INSTALLED_APPS = [
    "daemon_app.apps.DaemonConfig",
    "bachweb.apps.AdministrationConfig",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "channels",
    "django_htmx",
    "django_q",
    "lucide",
    "rest_framework",
    "drf_spectacular",
]
# For a command that serves no page and starts no part: the rest takes as long to load as Django.
APPS_OF_COMMANDS = ["daemon_app.apps.DaemonConfig"]
MIDDLEWARE = [
    "daemon_app.compression.Compressed",
    "daemon_app.compression.StaticFiles",
    "daemon_app.middleware.Language",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "daemon_app.middleware.Presence",
    "daemon_app.middleware.Asking",
    "daemon_app.middleware.SessionLimits",
    "daemon_app.middleware.SignInRequired",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
]
ROOT_URLCONF = "bachweb.urls"
ASGI_APPLICATION = "bachweb.asgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# ── Database (docs/adr: SQLite settings) ─────────────────────────────────────────────────────────
DATABASES = {
    "default": dj_database_url.config(
        default=f"sqlite:///{DATA_DIR / 'bach.sqlite3'}", conn_max_age=0
    )
}
ONE_CHECKPOINTER = has_wal_bug(sqlite3.sqlite_version_info)
if DATABASES["default"]["ENGINE"] == "django.db.backends.sqlite3":
    DATABASES["default"]["OPTIONS"] = {
        # A deferred transaction that reads and then writes is refused at once under load:
        # 2,187 of 2,400 contended claims failed with Django's default, none with IMMEDIATE.
        "transaction_mode": "IMMEDIATE",
        "timeout": 20,
        "init_command": (
            "PRAGMA journal_mode=WAL;PRAGMA synchronous=FULL;PRAGMA foreign_keys=ON;"
            "PRAGMA temp_store=MEMORY;PRAGMA cache_size=-4000;"
            # Where a checkpoint and a commit that meet may damage the file, only the daemon
            # makes checkpoints.
            + ("PRAGMA wal_autocheckpoint=0;" if ONE_CHECKPOINTER else "")
        ),
    }
elif DATABASES["default"]["ENGINE"] == "django.db.backends.postgresql":
    # Under ASGI a persistent connection is opened anew for each request; a pool is not.
    DATABASES["default"]["CONN_MAX_AGE"] = 0
    DATABASES["default"]["OPTIONS"] = {"pool": True}

# ── The queue (docs/adr: short queue tasks and detached supervisors) ─────────────────────────────
Q_CLUSTER = {
    "name": "bach",
    "orm": "default",
    "broker_class": "daemon_app.broker.WakingBroker",
    "workers": 1,
    "queue_limit": 8,
    "bulk": 8,
    "timeout": 60,
    # Ten years: a task lasts milliseconds, and what was lost is sent again by our own sweep.
    "retry": 315_360_000,
    "max_attempts": 1,
    "ack_failures": True,
    "save_limit": -1,
    "scheduler": False,
    "catch_up": False,
    "guard_cycle": 2,
    "recycle": 1_000_000,
    "log_level": "WARNING",
}
# Our own limit for runs at once on this host.
MAX_PARALLEL = number("BACH_MAX_PARALLEL", 4, 1, 1000)
# What a stop of the daemon means for running commands: they go on, or they get so many seconds.
ON_STOP = choice("BACH_ON_STOP", "leave", "drain")
DRAIN_SECONDS = number("BACH_DRAIN_SECONDS", 60, 0, 86_400)

# ── Health ───────────────────────────────────────────────────────────────────────────────────────
TICK_SECONDS = number("BACH_TICK_SECONDS", 30, 1, 3600)
# What the rules on the settings page do not say otherwise.
GPU_SERVICE_URL = machine.service(
    "GPU_SERVICE_URL", os.environ.get("GPU_SERVICE_URL") or "http://localhost:17803"
)
# Of these somebody has said where they are; the others may well not be there at all.
SERVICES_NAMED = {
    name
    for name, variable in (("gpu_service", "GPU_SERVICE_URL"), ("ollama", "OLLAMA_URL"))
    if os.environ.get(variable)
}
OLLAMA_URL = machine.service("OLLAMA_URL", os.environ.get("OLLAMA_URL") or "http://localhost:11434")
# What other programs read of us.
EXPORTS_DIR = DATA_DIR / "exports"

# ── Language and time ────────────────────────────────────────────────────────────────────────────
LANGUAGE_CODE = "de"
LANGUAGES = [("de", _("German")), ("en", _("English"))]
# Chosen per browser; cookies ignore ports, so the port is in the name.
LANGUAGE_COOKIE_NAME = f"bach_{PORT}_language"
LANGUAGE_COOKIE_AGE = 365 * 24 * 3600
LOCALE_PATHS = [BASE_DIR / "locale"]
USE_I18N = True
USE_TZ = True
TIME_ZONE = os.environ.get("BACH_TIME_ZONE") or machine.time_zone()

# ── Static files ─────────────────────────────────────────────────────────────────────────────────
STATIC_URL = "/static/"
STATIC_ROOT = machine.private_directory(DATA_DIR / "static")
STATICFILES_DIRS = [BASE_DIR / "static"]
WHITENOISE_USE_FINDERS = True

# ── Sign-in, sessions, headers (semantics 10) ────────────────────────────────────────────────────
AUTH_USER_MODEL = "daemon_app.Account"
LOGIN_URL = "/daemon/login/"
LOGIN_REDIRECT_URL = "/daemon/"
PASSWORD_HASHERS = ["django.contrib.auth.hashers.ScryptPasswordHasher"]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {
        "NAME": "django.contrib.auth.password_validation.MinimumLengthValidator",
        "OPTIONS": {"min_length": 10},
    },
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]
SESSION_ENGINE = "django.contrib.sessions.backends.db"
# Cookies ignore ports: two servers on one machine must not overwrite each other's.
SESSION_COOKIE_NAME = f"__Host-bach_{PORT}" if TLS else f"bach_{PORT}"
SESSION_COOKIE_AGE = 12 * 3600
SESSION_IDLE_AGE = 2 * 3600
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = "Strict"
SESSION_COOKIE_SECURE = TLS
CSRF_USE_SESSIONS = True
CSRF_COOKIE_SECURE = TLS
CSRF_FAILURE_VIEW = "daemon_app.views.errors.csrf_failure"
# The guard puts the headers of Django's two security middlewares on every answer, static files and
# refusals included, and with TLS refuses every other scheme (daemon_app.guard).
SILENCED_SYSTEM_CHECKS = ["security.W001", "security.W002"]
DATA_UPLOAD_MAX_MEMORY_SIZE = 256 * 1024
DATA_UPLOAD_MAX_NUMBER_FIELDS = 200
MESSAGE_STORAGE = "django.contrib.messages.storage.session.SessionStorage"
CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}

# Open pages that one web process serves: what they cost is bounded, and so is their number.
LIVE_SOCKETS = number("BACH_LIVE_SOCKETS", 200, 1, 10_000)
LIVE_SOCKETS_PER_SESSION = 10

# ── REST ─────────────────────────────────────────────────────────────────────────────────────────
REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "daemon_app.api.authentication.BearerToken",
        "daemon_app.api.authentication.SameOriginSession",
    ],
    "DEFAULT_PERMISSION_CLASSES": ["daemon_app.api.permissions.ByRole"],
    "DEFAULT_PARSER_CLASSES": ["rest_framework.parsers.JSONParser"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_SCHEMA_CLASS": "daemon_app.api.operation.Described",
    "URL_FORMAT_OVERRIDE": None,
    "EXCEPTION_HANDLER": "daemon_app.api.errors.handle",
    "UNAUTHENTICATED_USER": "django.contrib.auth.models.AnonymousUser",
}
SPECTACULAR_SETTINGS = {
    "TITLE": "BACH Daemon",
    "DESCRIPTION": "Jobs, runs and the state of the daemon.",
    "VERSION": "0.1.0",
    "OAS_VERSION": "3.1.0",
    "SERVE_INCLUDE_SCHEMA": False,
    # What is sent has other fields than what comes back: those that the daemon sets are refused.
    "COMPONENT_SPLIT_REQUEST": True,
    "POSTPROCESSING_HOOKS": [
        "drf_spectacular.hooks.postprocess_schema_enums",
        "daemon_app.api.schema.complete",
        "daemon_app.api.conditions.describe",
        "daemon_app.api.examples.fill",
    ],
    "ENUM_NAME_OVERRIDES": {
        "StateEnum": "daemon_app.models.Run.State",
        "AttemptStateEnum": "daemon_app.models.Attempt.STATES",
    },
}

# ── Logs ─────────────────────────────────────────────────────────────────────────────────────────
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "{asctime} {levelname} {name}: {message}", "style": "{"}},
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "line"}},
    "root": {"handlers": ["console"], "level": "WARNING"},
    "loggers": {
        "daemon_app": {"level": "INFO"},
        # A page that is not there, a form that is not right: an answer, not an event.
        "django.request": {"level": "ERROR"},
    },
}
