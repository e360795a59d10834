"""What the admin shows of this floor; each page has a module of its own."""

from providers import health_admin, provider_admin, rule_admin  # noqa: F401
