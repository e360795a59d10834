"""A private Postfix on a loopback port, to measure beside: its own configuration, queue and processes.

Two ways to take the load: `discard` accepts into the queue and throws the mail away from there, as shipped otherwise;
`hold` accepts into the hold queue, where nothing more happens to it, and lifts Postfix's brake on fast senders
(`in_flow_delay`): the most it can accept.
"""

from __future__ import annotations

import base64
import contextlib
import os
import shutil
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from accounts.tests.ports import free_port
from bench.waiting import until

POSTFIX = shutil.which("postfix") or "/usr/sbin/postfix"
POSTSUPER = shutil.which("postsuper") or "/usr/sbin/postsuper"
DAEMONS = "/usr/lib/postfix/sbin"
MODES = ("discard", "hold")
STARTS = 5

MAIN_CF = """
compatibility_level = 3.6
queue_directory = {folder}/queue
data_directory = {folder}/data
command_directory = /usr/sbin
daemon_directory = {daemons}
mail_owner = postfix
setgid_group = postdrop
myhostname = peer.bench.example
mydestination =
mynetworks = 127.0.0.0/8
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
alias_maps =
alias_database =
local_recipient_maps =
default_transport = discard:
relay_transport = discard:
default_process_limit = 400
message_size_limit = 52428800
smtpd_banner = $myhostname ESMTP
"""
HOLD_CF = """
smtpd_recipient_restrictions = static:HOLD, permit_mynetworks, permit_sasl_authenticated, reject
in_flow_delay = 0
"""
# With a certificate, sessions must authenticate as ours must; loopback alone then does not suffice.
TLS_CF = """
smtpd_tls_security_level = encrypt
smtpd_tls_cert_file = {certificate}
smtpd_tls_key_file = {key}
smtpd_tls_auth_only = yes
smtpd_sasl_auth_enable = yes
smtpd_sasl_type = dovecot
smtpd_sasl_path = {folder}/auth
mynetworks = 192.0.2.1/32
smtpd_client_connection_count_limit = 0
"""
MASTER_CF = """
127.0.0.1:{port} inet n - n - - smtpd
cleanup   unix  n       -       n       -       0       cleanup
qmgr      unix  n       -       n       300     1       qmgr
tlsmgr    unix  -       -       n       1000?   1       tlsmgr
rewrite   unix  -       -       n       -       -       trivial-rewrite
bounce    unix  -       -       n       -       0       bounce
defer     unix  -       -       n       -       0       bounce
trace     unix  -       -       n       -       0       bounce
proxymap  unix  -       -       n       -       -       proxymap
error     unix  -       -       n       -       -       error
retry     unix  -       -       n       -       -       error
discard   unix  -       -       n       -       -       discard
anvil     unix  -       -       n       -       1       anvil
"""


@dataclass(frozen=True)
class Server:
    """Something that takes mail on a port: what it is called and the processes its cost is read from.

    `forget` is called before each load; `empty` throws away all that was taken.
    """

    name: str
    port: int
    roots: tuple[int, ...]
    user: str = ""
    password: str = ""
    forget: Callable[[], object] = lambda: None
    empty: Callable[[], object] = lambda: None
    database_cpu: Callable[[], float] = lambda: 0.0


def why_not() -> str:
    """What is missing to run Postfix here; "" when nothing is."""
    if not Path(POSTFIX).exists() or not Path(DAEMONS, "smtpd").exists():
        return "Postfix is not installed"
    return "" if os.geteuid() == 0 else "Postfix can only be started by root"


@contextlib.contextmanager
def postfix(
    folder: Path, mode: str = "discard", tls: tuple[Path, Path] | None = None, user: str = "", password: str = ""
) -> Iterator[Server]:
    """A running Postfix whose files lie in `folder`, which is not removed here; `tls` is (certificate, key)."""
    folder.mkdir(parents=True)
    for above in (folder, *folder.parents):
        if above.owner() == "root" and above.stat().st_mode & 0o011 == 0:
            above.chmod(0o755)
    for name, owner in (("queue", "root"), ("data", "postfix"), ("etc", "root")):
        (folder / name).mkdir()
        shutil.chown(folder / name, owner)
    main = MAIN_CF.format(folder=folder, daemons=DAEMONS)
    main += HOLD_CF if mode == "hold" else ""
    if tls:
        main += TLS_CF.format(folder=folder, certificate=tls[0], key=tls[1])
    (folder / "etc" / "main.cf").write_text(main)
    with contextlib.ExitStack() as stack:
        if tls:
            stack.enter_context(_authenticator(folder / "auth", user, password))
        log = stack.enter_context(open(folder / "log", "wb"))
        port = stack.enter_context(_running(folder, log))
        yield Server(
            name=f"Postfix ({mode})",
            port=port,
            roots=(int((folder / "queue" / "pid" / "master.pid").read_text()),),
            user=user if tls else "",
            password=password if tls else "",
            empty=lambda: subprocess.run(
                [POSTSUPER, "-c", str(folder / "etc"), "-d", "ALL"], check=True, stdout=log, stderr=log, timeout=120
            ),
        )


@contextlib.contextmanager
def _running(folder: Path, log: BinaryIO) -> Iterator[int]:
    """Start it on a free port, and on another where somebody else was quicker; stop it in the end."""
    control = [POSTFIX, "-c", str(folder / "etc")]
    for _ in range(STARTS):
        port = free_port()
        (folder / "etc" / "master.cf").write_text(MASTER_CF.format(port=port))
        started = subprocess.run([*control, "start"], check=False, stdout=log, stderr=log, timeout=30)
        if started.returncode == 0:
            break
    else:
        raise RuntimeError(f"Postfix did not start:\n{(folder / 'log').read_text()}")
    try:
        until(lambda: _answers(port), "the start of Postfix", 10)
        yield port
    finally:
        subprocess.run([*control, "stop"], check=False, stdout=log, stderr=log, timeout=30)


def _answers(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1) as greeted:
        return greeted.recv(3) == b"220"
    return False


@contextlib.contextmanager
def _authenticator(path: Path, user: str, password: str) -> Iterator[None]:
    """Knows one user, and speaks as much of Dovecot's authentication protocol (version 1.1) as smtpd asks for."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    path.chmod(0o666)
    listener.listen(200)
    right = base64.b64encode(f"\0{user}\0{password}".encode()).decode()

    def serve() -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=_authenticate, args=(client, user, right), daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()


def _authenticate(client: socket.socket, user: str, right: str) -> None:
    with client, client.makefile("rw", newline="\n") as lines:
        lines.write("VERSION\t1\t1\nMECH\tPLAIN\tplaintext\nSPID\t1\nCUID\t1\nCOOKIE\t00\nDONE\n")
        lines.flush()
        for line in lines:
            words = line.rstrip("\n").split("\t")
            if words[0] == "AUTH":
                known = f"resp={right}" in words
                lines.write(f"OK\t{words[1]}\tuser={user}\n" if known else f"FAIL\t{words[1]}\n")
                lines.flush()
