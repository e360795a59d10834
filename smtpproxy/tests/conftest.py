"""A database for tests whose processes live longer than one test."""

import pytest
from django.db import connection
from django.test.utils import setup_databases, teardown_databases


@pytest.fixture(scope="module")
def database(django_db_setup, django_db_blocker):
    """What is written there is committed, and stays: no test here is marked as one that uses the database, so pytest
    does not make one for their sake."""
    made = None
    with django_db_blocker.unblock():
        if connection.vendor != "postgresql":
            pytest.skip("a test database in memory cannot be shared with other processes")
        if not connection.settings_dict["NAME"].startswith("test_"):
            made = setup_databases(verbosity=0, interactive=False)
        yield
        if made:
            teardown_databases(made, verbosity=0)
