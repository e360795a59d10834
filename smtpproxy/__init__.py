"""The project: wires the floors together; no floor imports it."""

from smtpproxy.celery import app as celery_app

__all__ = ("celery_app",)
