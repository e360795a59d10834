"""Ready lines that send a first message with an account's credentials: this account's, to this installation."""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass

from django.conf import settings

from accounts.models import Account

PASSWORD = "YOUR-PASSWORD"  # noqa: S105  none: what people replace
"""Stands where the password goes: it is shown once, when it is issued."""
KEY = "YOUR-API-KEY"
UNKNOWN_HOST = "<this server>"


@dataclass(frozen=True, slots=True)
class Snippet:
    """How to send from one kind of program; `id` names it on the page."""

    id: str
    name: str
    text: str


@dataclass(frozen=True, slots=True)
class Door:
    """Where programs hand mail in; `implicit_port` is 0 where there is none with TLS from the start."""

    host: str
    port: int
    starttls: bool
    implicit_port: int
    api: str


def door() -> Door:
    smtp = settings.SMTP
    api = (settings.WEB_PUBLIC_URL or f"https://{UNKNOWN_HOST}") + "/api/v1/messages"
    starttls = smtp["TLS_MODE"] == "starttls"
    return Door(smtp["HOSTNAME"], smtp["PORT"], starttls, smtp["TLS_PORT"] if starttls else 0, api)


def sender(account: Account) -> str:
    """An address the account may send from; "" where it may send from none."""
    if not account.allowed_senders:
        return ""
    return f"test@{account.allowed_senders[0].replace('*.', 'mail.', 1)}"


def swaks(account: Account, password: str) -> str:
    """A swaks command for this account against this installation's listener; holds the password.

    "" for an account that may not send from any domain.
    """
    if not account.allowed_senders:
        return ""
    here = door()
    arguments = {
        "--server": f"{here.host}:{here.port}",
        "--auth": "PLAIN",
        "--auth-user": account.username,
        "--auth-password": password,
        "--from": sender(account),
        "--to": "you@example.com",
    }
    tls = ["--tls"] if here.starttls else []
    return shlex.join(["swaks", *tls, *(part for pair in arguments.items() for part in pair)])


def all_for(account: Account) -> list[Snippet]:
    """One for each kind of program, without the password; none for an account that may send nothing."""
    if not account.allowed_senders:
        return []
    here, user, from_ = door(), account.username, sender(account)
    return [
        Snippet("swaks", "swaks", swaks(account, PASSWORD)),
        Snippet("curl", "curl (SMTP)", _curl(here, user, from_)),
        Snippet("python", "Python", _python(here, user, from_)),
        Snippet("django", "Django", _django(here, user, from_)),
        Snippet("nodemailer", "Nodemailer", _nodemailer(here, user, from_)),
        Snippet("phpmailer", "PHPMailer", _phpmailer(here, user, from_)),
        Snippet("dotnet", ".NET (MailKit)", _dotnet(here, user, from_)),
        Snippet("java", "Java (Jakarta Mail)", _java(here, user)),
        Snippet("printer", "Printer or scanner", _printer(here, user, from_)),
        Snippet("api", "HTTP API (curl)", _api(here, from_)),
    ]


def _curl(here: Door, user: str, from_: str) -> str:
    line = ["curl", "--url", f"smtp://{here.host}:{here.port}", *(["--ssl-reqd"] if here.starttls else [])]
    line += ["--user", f"{user}:{PASSWORD}", "--mail-from", from_, "--mail-rcpt", "you@example.com"]
    return f"printf 'From: {from_}\\r\\nTo: you@example.com\\r\\nSubject: Test\\r\\n\\r\\nHello!\\r\\n' |\n  " + (
        shlex.join([*line, "--upload-file", "-"])
    )


def _python(here: Door, user: str, from_: str) -> str:
    tls = "    smtp.starttls()\n" if here.starttls else ""
    return (
        "import smtplib\nfrom email.message import EmailMessage\n\n"
        f'message = EmailMessage()\nmessage["From"], message["To"] = {json.dumps(from_)}, "you@example.com"\n'
        'message["Subject"] = "Test"\nmessage.set_content("Hello!")\n\n'
        f"with smtplib.SMTP({json.dumps(here.host)}, {here.port}) as smtp:\n{tls}"
        f'    smtp.login({json.dumps(user)}, "{PASSWORD}")\n    smtp.send_message(message)\n'
    )


def _django(here: Door, user: str, from_: str) -> str:
    return (
        'EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"\n'
        f"EMAIL_HOST = {json.dumps(here.host)}\nEMAIL_PORT = {here.port}\nEMAIL_USE_TLS = {here.starttls}\n"
        f'EMAIL_HOST_USER = {json.dumps(user)}\nEMAIL_HOST_PASSWORD = "{PASSWORD}"\n'
        f"DEFAULT_FROM_EMAIL = {json.dumps(from_)}\n"
    )


def _nodemailer(here: Door, user: str, from_: str) -> str:
    return (
        'const nodemailer = require("nodemailer");\n\nconst transport = nodemailer.createTransport({\n'
        f"  host: {json.dumps(here.host)},\n  port: {here.port},\n  secure: false,\n"
        f"  requireTLS: {json.dumps(here.starttls)},\n"
        f'  auth: {{ user: {json.dumps(user)}, pass: "{PASSWORD}" }},\n}});\n\n'
        f'transport.sendMail({{ from: {json.dumps(from_)}, to: "you@example.com",\n'
        '  subject: "Test", text: "Hello!" });\n'
    )


def _phpmailer(here: Door, user: str, from_: str) -> str:
    tls = "PHPMailer::ENCRYPTION_STARTTLS" if here.starttls else "''"
    return (
        "use PHPMailer\\PHPMailer\\PHPMailer;\n\n$mail = new PHPMailer(true);\n$mail->isSMTP();\n"
        f"$mail->Host = {_php(here.host)};\n$mail->Port = {here.port};\n$mail->SMTPSecure = {tls};\n"
        f"$mail->SMTPAuth = true;\n$mail->Username = {_php(user)};\n$mail->Password = '{PASSWORD}';\n"
        f"$mail->setFrom({_php(from_)});\n$mail->addAddress('you@example.com');\n"
        "$mail->Subject = 'Test';\n$mail->Body = 'Hello!';\n$mail->send();\n"
    )


def _php(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _dotnet(here: Door, user: str, from_: str) -> str:
    tls = "SecureSocketOptions.StartTls" if here.starttls else "SecureSocketOptions.None"
    return (
        "using MailKit.Net.Smtp;\nusing MailKit.Security;\nusing MimeKit;\n\nvar message = new MimeMessage();\n"
        f"message.From.Add(MailboxAddress.Parse({json.dumps(from_)}));\n"
        'message.To.Add(MailboxAddress.Parse("you@example.com"));\nmessage.Subject = "Test";\n'
        'message.Body = new TextPart("plain") { Text = "Hello!" };\n\nusing var smtp = new SmtpClient();\n'
        f"smtp.Connect({json.dumps(here.host)}, {here.port}, {tls});\n"
        f'smtp.Authenticate({json.dumps(user)}, "{PASSWORD}");\nsmtp.Send(message);\n'
    )


def _java(here: Door, user: str) -> str:
    return (
        f"mail.smtp.host={here.host}\nmail.smtp.port={here.port}\nmail.smtp.auth=true\n"
        f"mail.smtp.starttls.enable={json.dumps(here.starttls)}\n"
        f"mail.smtp.starttls.required={json.dumps(here.starttls)}\nmail.smtp.user={user}\n"
        f"# the password goes to Transport.connect or an Authenticator: {PASSWORD}\n"
    )


def _printer(here: Door, user: str, from_: str) -> str:
    security = f"STARTTLS on port {here.port}" if here.starttls else f"none, on port {here.port}"
    more = f"\nor SSL/TLS on port:  {here.implicit_port}" if here.implicit_port else ""
    return (
        f"SMTP server:         {here.host}\nSecurity:            {security}{more}\nAuthentication:      on\n"
        f"User name:           {user}\nPassword:            {PASSWORD}\nSender (From):       {from_}\n"
    )


def _api(here: Door, from_: str) -> str:
    message = json.dumps({"from": from_, "to": ["you@example.com"], "subject": "Test", "text": "Hello!"})
    return (
        f"curl {shlex.quote(here.api)} \\\n  -H 'Authorization: Bearer {KEY}' \\\n"
        f"  -H 'Content-Type: application/json' \\\n  -d {shlex.quote(message)}\n"
    )
