"""What `manage.py serve` prints when everything runs: where to look, and lines that send a first message."""

from __future__ import annotations

from shlex import quote

from smtpproxy.serve.demo import Demo, credentials_file
from smtpproxy.serve.ports import Port, ports

RECIPIENT = "someone@example.net"
_TLS = {"starttls": "STARTTLS", "implicit": "TLS from the start", "none": "without TLS"}


def text(demo: Demo | None) -> str:
    web = ports()[-1]
    lines = [
        "",
        "smtpproxy is running; Ctrl-C stops it.",
        "",
        f"  Admin     http://{web.host_in_url}:{web.number}/admin/",
    ]
    lines += [f"  SMTP      {port.host}:{port.number}  {_TLS[port.tls]}" for port in ports()[:-1]]
    if demo is None:
        return "\n".join([*lines, ""])
    return "\n".join(
        [
            *lines,
            f"  Sign in   {demo.operator}  {demo.operator_password or '(the password you gave it)'}",
            f"  Account   {demo.username}  {demo.password}  may send as *@{demo.sender.partition('@')[2]}",
            f"            kept in {credentials_file()}",
            "",
            "Send a first message from another shell, with any of these:",
            "",
            *(part for line in examples(demo).values() for part in (f"  {line}", "")),
            f"It arrives in {demo.outbox}",
            "",
        ]
    )


def examples(demo: Demo) -> dict[str, str]:
    """One shell command per client. The first certificate is our own, so none of them asks who signed it."""
    port = ports()[0]
    return {"swaks": _swaks(demo, port), "curl": _curl(demo, port), "python": _python(demo, port)}


def _swaks(demo: Demo, port: Port) -> str:
    options = {"starttls": ["--tls"], "implicit": ["--tls-on-connect"], "none": []}[port.tls]
    return _command(
        ["swaks", "--server", port.reachable_host, "--port", str(port.number), *options, "--auth", "PLAIN"],
        ["--auth-user", demo.username, "--auth-password", demo.password],
        ["--from", demo.sender, "--to", RECIPIENT, "--header", "Subject: First message"],
    )


def _curl(demo: Demo, port: Port) -> str:
    scheme = "smtps" if port.tls == "implicit" else "smtp"
    options = {"starttls": ["--ssl-reqd", "--insecure"], "implicit": ["--insecure"], "none": []}[port.tls]
    sends = _command(
        ["curl", "--silent", "--show-error", "--verbose", "--url", f"{scheme}://{port.host_in_url}:{port.number}"],
        [*options, "--user", f"{demo.username}:{demo.password}"],
        ["--mail-from", demo.sender, "--mail-rcpt", RECIPIENT, "--upload-file", "-"],
    )
    # Of all it tells: the id the message was accepted with, or what went wrong.
    return f"printf '{_message(demo)}' | {sends} 2>&1 | grep -E 'queued as|^< [45]|^curl:'"


def _python(demo: Demo, port: Port) -> str:
    client = "SMTP_SSL" if port.tls == "implicit" else "SMTP"
    steps = [
        "import smtplib",
        f's = smtplib.{client}("{port.reachable_host}", {port.number})',
        *(["s.starttls()"] if port.tls == "starttls" else []),
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
