"""`manage.py sendtest`: one message through the listener."""

from __future__ import annotations

from argparse import ArgumentParser
from getpass import getpass
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from smtpproxy import sendtest
from smtpproxy.serve import demo, ports


class Command(BaseCommand):
    help = "Send a message through the listener and print its id; with --wait also what became of it."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--to", action="append", metavar="ADDRESS", help="may be given several times")
        parser.add_argument("--from", dest="sender", metavar="ADDRESS")
        parser.add_argument("--subject", default="Test message")
        parser.add_argument("--attach", action="append", type=Path, default=[], metavar="FILE")
        parser.add_argument("--host", help="default: this installation's listener")
        parser.add_argument("--port", type=int)
        parser.add_argument(
            "--tls", choices=["starttls", "implicit", "none"], help="default: as the listener is set up"
        )
        parser.add_argument("--username", help="default: the demo account; its password is asked for")
        parser.add_argument("--wait", nargs="?", type=float, const=30.0, metavar="SECONDS", help="30 unless told")

    def handle(self, **options: Any) -> None:
        made = demo.load()
        if made is None and not (options["username"] and options["sender"]):
            raise CommandError("There is no demo account here: give --username and --from.")
        username = options["username"] or (made.username if made else "")
        password = made.password if made and username == made.username else getpass(f"Password of {username}: ")
        sender = options["sender"] or (made.sender if made else "")
        recipients = options["to"] or ["someone@example.net"]
        port = ports.ports()[0]
        door = sendtest.Door(
            host=options["host"] or port.reachable_host,
            port=options["port"] or port.number,
            tls=options["tls"] or port.tls,
            username=username,
            password=password,
        )
        try:
            message = sendtest.test_message(sender, recipients, options["subject"], options["attach"])
            message_id = sendtest.send(door, sender, recipients, message)
        except (sendtest.NotSent, OSError, ValueError) as error:
            raise CommandError(str(error)) from error
        self.stdout.write(f"accepted as {message_id}")
        if options["wait"] is not None:
            self.stdout.write("\n".join(sendtest.outcome(message_id, options["wait"])))
