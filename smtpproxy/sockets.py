"""Where the embedded broker listens. Every process works the path out for itself, so nothing has to be written down."""

import hashlib
import os
import tempfile
from pathlib import Path
from urllib.parse import quote

# What the shortest `sun_path` among our systems holds (104 octets on macOS, 108 on Linux), its closing NUL not counted.
LONGEST = 103


def broker_socket(data_dir: Path) -> Path:
    """The socket inside `data_dir`; where that is too long for a socket address, one in a private temporary folder."""
    inside = data_dir / "broker" / "broker.sock"
    if len(os.fsencode(inside)) <= LONGEST:
        return inside
    name = hashlib.sha256(os.fsencode(data_dir)).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"smtpproxy-{os.getuid()}-{name}" / "broker.sock"


def redis_url(socket: Path) -> str:
    """The URL redis-py connects to the socket with."""
    return f"unix://{quote(str(socket))}"


def broker_url(redis_url: str) -> str:
    """The same server as Celery names it."""
    return redis_url.replace("unix://", "redis+socket://", 1) if redis_url.startswith("unix://") else redis_url
