"""Packages of the npm registry that tests use: programs for Node and for the browser."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
from pathlib import Path

TIMEOUT = 120


def install(folder: Path, package: str) -> str:
    """What is in the way of `package` ("name@version"), "" when it is installed below the folder's `node_modules`."""
    if not shutil.which("npm"):
        return "npm is not installed"
    (folder / "package.json").write_text("{}")
    with contextlib.suppress(subprocess.TimeoutExpired):
        command = ["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", package]
        if subprocess.run(command, check=False, cwd=folder, capture_output=True, timeout=TIMEOUT).returncode == 0:
            return ""
    return "the npm registry cannot be reached"
