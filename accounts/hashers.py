"""Passwords of people: argon2id at OWASP's smaller profile (19 MiB, t=2, p=1), as SMTP-5 asks."""

from django.contrib.auth.hashers import Argon2PasswordHasher


class ModestArgon2PasswordHasher(Argon2PasswordHasher):
    """Django's default takes 100 MiB a check, which a handful of sign-ins at once turns into an outage."""

    time_cost = 2
    memory_cost = 19 * 1024
    parallelism = 1
