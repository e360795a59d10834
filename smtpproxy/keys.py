"""Secrets this installation makes for itself when none are configured: written once, read ever after."""

import os
import secrets
from collections.abc import Callable
from pathlib import Path

from cryptography.fernet import Fernet


def kept(path: Path, make: Callable[[], str]) -> str:
    """The content of `path`; made, with mode 0600, by whichever process comes first.

    The file appears under its name only when complete, so that no process ever reads half a key.
    """
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        draft = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(make())
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(draft, path)
        except FileExistsError:
            pass  # another process was first; its key counts
        finally:
            draft.unlink()
    return path.read_text().strip()


def secret_key() -> str:
    return secrets.token_urlsafe(50)


def credential_key() -> str:
    return Fernet.generate_key().decode()
