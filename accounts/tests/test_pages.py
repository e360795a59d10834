"""Long lists: nothing is counted that nobody looks at (ADM-5)."""

import pytest
from django.template import Context, Template

from accounts import pages
from accounts.models import Tenant
from accounts.pages import MOST_PAGES, PAGES_AHEAD, BoundedPaginator, MoreThan
from accounts.tests.factories import TenantFactory

pytestmark = pytest.mark.django_db


def counted(rows, at=1, per_page=1):
    paginator = BoundedPaginator(rows, per_page)
    paginator.at = at
    return paginator


def test_a_short_list_is_counted():
    TenantFactory.create_batch(3)
    assert counted(Tenant.objects.all()).count == 3
    assert counted(Tenant.objects.all(), per_page=2).num_pages == 2


def test_a_long_list_is_counted_as_far_as_its_pages_are_offered(django_assert_num_queries):
    TenantFactory.create_batch(PAGES_AHEAD + 5)
    paginator = counted(Tenant.objects.order_by("name"))
    with django_assert_num_queries(1) as queries:
        assert paginator.count == PAGES_AHEAD
    assert f"LIMIT {PAGES_AHEAD + 1}" in queries.captured_queries[0]["sql"]
    assert paginator.num_pages == PAGES_AHEAD


def test_leafing_on_offers_further_pages_up_to_a_bound():
    TenantFactory.create_batch(PAGES_AHEAD + 5)
    assert counted(Tenant.objects.order_by("name"), at=PAGES_AHEAD).count == PAGES_AHEAD + 5
    assert counted(range(10 * MOST_PAGES), at=5 * MOST_PAGES).num_pages == MOST_PAGES


def test_what_was_not_counted_to_the_end_says_so_wherever_it_is_shown():
    assert Template("{{ n }}").render(Context({"n": MoreThan(1000)})) == "more than 1,000"
    assert f"{MoreThan(25)}" == "more than 25"


@pytest.mark.parametrize(("most", "left"), [(2, 2), (4, 4), (5, 4)])
def test_the_newest_are_told_by_their_keys(most, left, monkeypatch):
    monkeypatch.setattr(pages, "NEWEST", most)
    tenants = TenantFactory.create_batch(4)
    rows = Tenant.objects.order_by("pk")
    assert list(pages.newest(rows, rows)) == tenants[-left:]
