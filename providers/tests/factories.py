"""Rows of the providers floor for tests."""

import factory
from django.utils import timezone
from factory.django import DjangoModelFactory

from accounts.tests.factories import TenantFactory
from providers import models


class ProviderFactory(DjangoModelFactory):
    """A provider that keeps what it is sent in memory; a tenant's default one unless `default_rank=None`."""

    class Meta:
        model = models.Provider

    tenant = factory.SubFactory(TenantFactory)
    name = factory.Sequence("provider {}".format)
    type = "memory"
    config = factory.LazyFunction(dict)
    default_rank = 0


class HealthEventFactory(DjangoModelFactory):
    class Meta:
        model = models.HealthEvent

    provider = factory.SubFactory(ProviderFactory)
    state = models.HealthEvent.State.UNHEALTHY
    reason = "No answer."
    occurred_at = factory.LazyFunction(timezone.now)


class RoutingRuleFactory(DjangoModelFactory):
    """A rule without conditions, which matches everything; `providers=[a, b]` makes them its targets in that order."""

    class Meta:
        model = models.RoutingRule
        skip_postgeneration_save = True

    tenant = factory.SubFactory(TenantFactory)
    name = factory.Sequence("rule {}".format)
    priority = factory.Sequence(lambda number: number * 10)
    conditions = factory.LazyFunction(list)

    @factory.post_generation
    def providers(self, create, extracted, **_):
        for position, provider in enumerate(extracted or ()):
            RoutingTargetFactory(rule=self, provider=provider, position=position)


class RoutingTargetFactory(DjangoModelFactory):
    class Meta:
        model = models.RoutingTarget

    rule = factory.SubFactory(RoutingRuleFactory)
    provider = factory.SubFactory(ProviderFactory, tenant=factory.SelfAttribute("..rule.tenant"))
    position = 0
