import pytest

from accounts.tests.factories import ApiKeyFactory, AuditEntryFactory, UserFactory

pytestmark = pytest.mark.django_db


def test_rows_made_for_tests_are_valid_rows(acme_account):
    for row in (acme_account, acme_account.tenant, UserFactory(), UserFactory(operator=True), ApiKeyFactory()):
        row.full_clean()
    assert AuditEntryFactory().pk
