"""Real mail clients as tests run them: each signs in under TLS, with the certificate checked, and sends one message."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import smtplib
import ssl
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from email.message import EmailMessage
from email.policy import SMTP
from pathlib import Path

from accounts.tests.ports import free_port
from smtpproxy.tests import services

SENDER, RECIPIENT = "app@example.com", "someone@example.net"
NODEMAILER = "nodemailer@10.6.0"
TIMEOUT = 120


@dataclass(frozen=True)
class Server:
    """A listener, how to sign in, the authority its certificate is from, and a folder for the client's files."""

    port: int
    username: str
    password: str
    ca: Path
    folder: Path


def message(subject: str, attachment: bytes) -> EmailMessage:
    made = EmailMessage(policy=SMTP)
    made["From"], made["To"], made["Subject"] = SENDER, RECIPIENT, subject
    made.set_content("See the attachment.\n")
    made.add_attachment(attachment, maintype="application", subtype="octet-stream", filename="data.bin")
    return made


def _run(*command: str | Path, **options: object) -> None:
    run = subprocess.run([str(part) for part in command], check=False, capture_output=True, timeout=TIMEOUT, **options)
    assert run.returncode == 0, (run.stdout + run.stderr)[-2000:].decode(errors="replace")


def swaks(server: Server, subject: str, attachment: bytes) -> None:
    (server.folder / "data.bin").write_bytes(attachment)
    _run(
        *("swaks", "--server", "localhost", "--port", str(server.port), "--tls", "--tls-verify"),
        *("--tls-ca-path", server.ca, "--auth", "LOGIN", "--auth-user", server.username),
        *("--auth-password", server.password, "--from", SENDER, "--to", RECIPIENT, "--silent", "2"),
        *("--header", f"Subject: {subject}", "--attach-type", "application/octet-stream"),
        *("--attach", f"@{server.folder / 'data.bin'}"),
    )


def curl(server: Server, subject: str, attachment: bytes) -> None:
    (server.folder / "message.eml").write_bytes(message(subject, attachment).as_bytes())
    _run(
        *("curl", "--silent", "--show-error", "--url", f"smtp://localhost:{server.port}", "--ssl-reqd"),
        *("--cacert", server.ca, "--user", f"{server.username}:{server.password}"),
        *("--mail-from", SENDER, "--mail-rcpt", RECIPIENT, "--upload-file", server.folder / "message.eml"),
    )


def python(server: Server, subject: str, attachment: bytes) -> None:
    with smtplib.SMTP("localhost", server.port, timeout=TIMEOUT) as client:
        client.starttls(context=ssl.create_default_context(cafile=str(server.ca)))
        client.login(server.username, server.password)
        assert client.send_message(message(subject, attachment)) == {}


def msmtp(server: Server, subject: str, attachment: bytes) -> None:
    configuration = server.folder / "msmtprc"
    configuration.write_text(
        f"account default\nhost localhost\nport {server.port}\nfrom {SENDER}\nauth plain\nuser {server.username}\n"
        f"password {server.password}\ntls on\ntls_starttls on\ntls_trust_file {server.ca}\n"
    )
    configuration.chmod(0o600)
    # As sendmail gets it: lone line feeds.
    text = message(subject, attachment).as_bytes(policy=SMTP.clone(linesep="\n"))
    _run("msmtp", "--file", configuration, "--", RECIPIENT, input=text)


def nodemailer(server: Server, subject: str, attachment: bytes) -> None:
    (server.folder / "data.bin").write_bytes(attachment)
    options = {
        "host": "localhost",
        "port": server.port,
        "requireTLS": True,
        "auth": {"user": server.username, "pass": server.password},
        "tls": {"ca": server.ca.read_text()},
    }
    mail = {"from": SENDER, "to": RECIPIENT, "subject": subject, "text": "See the attachment."}
    mail["attachments"] = [{"filename": "data.bin", "path": str(server.folder / "data.bin")}]
    script = f"""
        require("nodemailer").createTransport({json.dumps(options)}).sendMail({json.dumps(mail)})
            .then(info => {{ if (!info.response.startsWith("250 ")) process.exit(1) }})
            .catch(error => {{ console.error(error); process.exit(1) }})
    """
    _run("node", "-e", script, cwd=server.folder)


def why_no_postfix() -> str:
    if os.getuid() != 0:
        return "Postfix can only be started by root"
    if not shutil.which("postfix", path=f"{os.environ['PATH']}:/usr/sbin"):
        return "Postfix is not installed"
    if not list(Path("/usr/lib").glob("*/sasl2/libplain.so*")):
        return "the SASL plugins Postfix signs in with (libsasl2-modules) are not installed"
    return ""


MAIN_CF = """
compatibility_level = 3.6
queue_directory = {folder}/queue
data_directory = {folder}/data
command_directory = /usr/sbin
daemon_directory = /usr/lib/postfix/sbin
maillog_file = {folder}/log
maillog_file_prefixes = {folder}
myhostname = office.example.com
mydestination =
mynetworks = 127.0.0.0/8
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
alias_maps =
alias_database =
local_recipient_maps =
message_size_limit = 52428800
relayhost = [localhost]:{port}
smtp_host_lookup = native
smtp_tls_security_level = verify
smtp_tls_CAfile = {ca}
smtp_sasl_auth_enable = yes
smtp_sasl_password_maps = inline:{{ {{ [localhost]:{port} = {username}:{password} }} }}
smtp_sasl_security_options = noanonymous
"""
MASTER_CF = """
127.0.0.1:{own_port} inet n - n - - smtpd
postlog   unix-dgram n  -       n       -       1       postlogd
cleanup   unix  n       -       n       -       0       cleanup
qmgr      unix  n       -       n       300     1       qmgr
tlsmgr    unix  -       -       n       1000?   1       tlsmgr
rewrite   unix  -       -       n       -       -       trivial-rewrite
bounce    unix  -       -       n       -       0       bounce
defer     unix  -       -       n       -       0       bounce
trace     unix  -       -       n       -       0       bounce
proxymap  unix  -       -       n       -       -       proxymap
smtp      unix  -       -       n       -       -       smtp
relay     unix  -       -       n       -       -       smtp
error     unix  -       -       n       -       -       error
retry     unix  -       -       n       -       -       error
anvil     unix  -       -       n       -       1       anvil
"""


@contextlib.contextmanager
def _postfix(server: Server) -> Iterator[int]:
    """A private Postfix that relays everything through the server; its port."""
    folder, own_port = server.folder, free_port()
    for above in (folder, *folder.parents):
        if above.stat().st_mode & 0o011 == 0:
            above.chmod(0o755)
    for name, owner in (("queue", "root"), ("data", "postfix"), ("etc", "root")):
        (folder / name).mkdir()
        shutil.chown(folder / name, owner)
    main = MAIN_CF.format(
        folder=folder, port=server.port, ca=server.ca, username=server.username, password=server.password
    )
    (folder / "etc" / "main.cf").write_text(main)
    (folder / "etc" / "master.cf").write_text(MASTER_CF.format(own_port=own_port))
    control = ["/usr/sbin/postfix", "-c", str(folder / "etc")]
    _run(*control, "start")
    try:
        services.wait_until(lambda: services.port_answers(own_port), "the start of Postfix")
        yield own_port
    finally:
        subprocess.run([*control, "stop"], check=False, capture_output=True, timeout=30)


@contextlib.contextmanager
def postfix(server: Server, subject: str, attachment: bytes) -> Iterator[None]:
    """Postfix takes the message and relays it while the block runs."""
    with _postfix(server) as port:
        with smtplib.SMTP("127.0.0.1", port, timeout=TIMEOUT) as client:
            client.send_message(message(subject, attachment))
        try:
            yield
        except BaseException:
            print((server.folder / "log").read_text()[-3000:])
            raise
