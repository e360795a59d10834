"""`manage.py resetlink EMAIL`: a link to choose a password, where no mail can be sent."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.db import transaction

from accounts import audit, password_links
from accounts.models import User


class Command(BaseCommand):
    help = "Print a link to choose a password. Whoever has it can sign in as this person: hand it over safely."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("email")
        parser.add_argument("--origin", default="", help="how the admin is reached, https://… ; else WEB_PUBLIC_URL")

    def handle(self, **options: Any) -> None:
        user = User.objects.filter(email__iexact=options["email"].strip()).first()
        if user is None:
            raise CommandError("Nobody signs in with this address.")
        if not user.is_active:
            raise CommandError("This person may not sign in: make them active first.")
        origin = options["origin"].rstrip("/")
        if not (settings.WEB_PUBLIC_URL or origin):
            raise CommandError("Say how the admin is reached: --origin https://…, or WEB_PUBLIC_URL.")
        purpose = password_links.purpose_for(user)
        with transaction.atomic():
            audit.record("resetlink", "user.password_link_made", user, {"purpose": str(purpose)})
        self.stdout.write(password_links.link(user, purpose, origin))
