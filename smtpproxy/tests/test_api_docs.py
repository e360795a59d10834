"""Each line of docs/api.md does what it says: API-1, API-4, QLT-7."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from accounts.models import Account, ApiKey, Tenant, User
from accounts.tests.factories import UserFactory
from smtpproxy.tests import environment

pytestmark = pytest.mark.django_db(transaction=True)
DOCS = Path(__file__).resolve().parents[2] / "docs" / "api.md"
SECTIONS = ("API", "Sign in", "Accounts and keys", "People and tenants", "Errors", "Lists")


def commands():
    """The shell lines of the sections above, in order."""
    for section in re.split(r"^#+ ", DOCS.read_text(), flags=re.M)[1:]:
        if section.partition("\n")[0] in SECTIONS:
            yield from re.findall(r"^```sh\n(.*?)^```", section, flags=re.M | re.S)


def test_every_line_of_the_docs_works(acme, live_server, tmp_path, client):
    for tool in ("curl", "jq", "bash"):
        if shutil.which(tool) is None:
            environment.missing(tool)
    UserFactory(tenant=acme, email="owner@acme.example", plain_password="correct horse battery")
    script = "\n".join(commands()).replace("http://127.0.0.1:8000", live_server.url)
    # Errors of the API are errors of the shell, but for the one that is shown on purpose.
    script = script.replace("curl -s", "curl -sS --fail-with-body").replace("| jq .details", "| jq .details || true")
    shell = ["bash", "-euxo", "pipefail", "-c", script]
    done = subprocess.run(shell, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert Account.objects.get(username="shop@acme").status == "suspended"
    assert sorted(key.revoked_at is None for key in ApiKey.objects.all()) == [False, True]
    assert User.objects.get(email="ann@acme.example").role == "viewer"
    assert Tenant.objects.get(pk=acme.pk).deletes_at is None
