"""What `manage.py serve` prints when everything runs: where to look, and lines that send a first message."""

from __future__ import annotations

from shlex import quote

from django.conf import settings

from smtpproxy.serve.demo import Demo, credentials_file
from smtpproxy.serve.ports import ports

RECIPIENT = "someone@example.net"


def text(demo: Demo | None) -> str:
    web = ports()[-1]
    host = f"[{web.reachable_host}]" if ":" in web.reachable_host else web.reachable_host
    lines = ["", "smtpproxy is running; Ctrl-C stops it.", "", f"  Admin     http://{host}:{web.number}/admin/"]
    lines += [f"  SMTP      {port.host}:{port.number}{_secured(port.setting)}" for port in ports()[:-1]]
    if demo is None:
        return "\n".join([*lines, ""])
    return "\n".join(
        [
            *lines,
            f"  Sign in   {demo.operator}  {demo.operator_password or '(the password you gave it)'}",
            f"  Account   {demo.username}  {demo.password}  may send as anybody@{demo.sender.partition('@')[2]}",
            f"            kept in {credentials_file()}",
            "",
            "Send a first message from another shell, with any of these:",
            "",
            *(part for line in examples(demo).values() for part in (f"  {line}", "")),
            f"It arrives in {demo.outbox}",
            "",
        ]
    )


def _secured(setting: str) -> str:
    if settings.SMTP["TLS_MODE"] == "none":
        return "  (no TLS)"
    return "  STARTTLS" if setting == "SMTP_PORT" else "  TLS from the start"


def examples(demo: Demo) -> dict[str, str]:
    """One shell command per client. The first certificate is our own, so none of them asks who signed it."""
    port = ports()[0]
    implicit, tls = port.setting == "SMTP_TLS_PORT", settings.SMTP["TLS_MODE"] != "none"
    return {
        "swaks": _swaks(demo, port.reachable_host, port.number, implicit=implicit, tls=tls),
        "curl": _curl(demo, port.reachable_host, port.number, implicit=implicit, tls=tls),
        "python": _python(demo, port.reachable_host, port.number, implicit=implicit, tls=tls),
    }


def _swaks(demo: Demo, host: str, port: int, *, implicit: bool, tls: bool) -> str:
    options = ["--tls-on-connect"] if implicit else ["--tls"] if tls else []
    return _command(
        ["swaks", "--server", host, "--port", str(port), *options, "--auth", "PLAIN"],
        ["--auth-user", demo.username, "--auth-password", demo.password],
        ["--from", demo.sender, "--to", RECIPIENT, "--header", "Subject: First message"],
    )


def _curl(demo: Demo, host: str, port: int, *, implicit: bool, tls: bool) -> str:
    host = f"[{host}]" if ":" in host else host
    options = ["--insecure"] if implicit else ["--ssl-reqd", "--insecure"] if tls else []
    return f"printf '{_message(demo)}' | " + _command(
        ["curl", "--url", f"{'smtps' if implicit else 'smtp'}://{host}:{port}", *options],
        ["--user", f"{demo.username}:{demo.password}"],
        ["--mail-from", demo.sender, "--mail-rcpt", RECIPIENT, "--upload-file", "-"],
    )


def _python(demo: Demo, host: str, port: int, *, implicit: bool, tls: bool) -> str:
    steps = [
        "import smtplib",
        f's = smtplib.SMTP{"_SSL" if implicit else ""}("{host}", {port})',
        *(["s.starttls()"] if tls and not implicit else []),
        f's.login("{demo.username}", "{demo.password}")',
        f's.mail("{demo.sender}")',
        f's.rcpt("{RECIPIENT}")',
        f'print(*s.data("{_message(demo)}"))',
        "s.quit()",
    ]
    return f"python3 -c {quote('; '.join(steps))}"


def _message(demo: Demo) -> str:
    return rf"From: {demo.sender}\r\nTo: {RECIPIENT}\r\nSubject: First message\r\n\r\nHello!\r\n"


def _command(*groups: list[str]) -> str:
    return " ".join(quote(word) for group in groups for word in group)
