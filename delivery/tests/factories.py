"""Rows of the delivery floor for tests: rows only, nothing is put into the message store."""

import factory
from django.utils import timezone
from factory.django import DjangoModelFactory

from accounts.ids import uuid7
from accounts.tests.factories import AccountFactory, TenantFactory
from delivery import models
from providers.tests.factories import ProviderFactory


class MessageFactory(DjangoModelFactory):
    """A queued message; `recipients=["a@b.example"]` makes its recipient rows (default: one)."""

    class Meta:
        model = models.Message
        skip_postgeneration_save = True

    id = factory.LazyFunction(uuid7)
    account = factory.SubFactory(AccountFactory)
    tenant = factory.SelfAttribute("account.tenant")
    status = models.MessageStatus.QUEUED
    mail_from = factory.LazyAttribute(lambda message: f"sender@{message.tenant.slug}.example")
    header_from = factory.SelfAttribute("mail_from")
    subject = factory.Sequence("Subject {}".format)
    message_id_header = factory.LazyAttribute(lambda message: f"<{message.id}@{message.tenant.slug}.example>")
    size = 1234
    recipient_count = 1
    store_key = factory.LazyAttribute(lambda message: f"tests/{message.id}")
    client_ip = "192.0.2.10"
    accepted_at = factory.LazyFunction(timezone.now)
    next_attempt_at = factory.LazyAttribute(
        lambda message: timezone.now() if message.status in models.DUE_STATUSES else None
    )
    finished_at = factory.LazyAttribute(
        lambda message: timezone.now() if message.status in models.ENDED_STATUSES else None
    )

    @factory.post_generation
    def recipients(self, create, extracted, **_):
        addresses = ["someone@outside.example"] if extracted is None else extracted
        for address in addresses:
            RecipientFactory(message=self, address=address)
        if len(addresses) != self.recipient_count:
            self.recipient_count = len(addresses)
            self.save(update_fields=["recipient_count"])


class RecipientFactory(DjangoModelFactory):
    class Meta:
        model = models.Recipient

    message = factory.SubFactory(MessageFactory, recipients=[])
    address = factory.Sequence("recipient{}@outside.example".format)
    updated_at = factory.LazyFunction(timezone.now)


class DeliveryLogFactory(DjangoModelFactory):
    class Meta:
        model = models.DeliveryLog

    message = factory.SubFactory(MessageFactory)
    account = factory.SelfAttribute("message.account")
    tenant = factory.SelfAttribute("message.tenant")
    provider = factory.SubFactory(ProviderFactory, tenant=factory.SelfAttribute("..tenant"))
    provider_name = factory.SelfAttribute("provider.name")
    provider_type = factory.SelfAttribute("provider.type")
    status = models.DeliveryLog.Status.DELIVERED
    attempt_number = 1
    idempotency_key = factory.LazyFunction(uuid7)
    recipients = factory.LazyFunction(lambda: ["someone@outside.example"])
    created_at = factory.LazyFunction(timezone.now)


class EventFactory(DjangoModelFactory):
    class Meta:
        model = models.Event

    message = factory.SubFactory(MessageFactory)
    tenant = factory.SelfAttribute("message.tenant")
    type = models.EventType.RECEIVED
    occurred_at = factory.LazyFunction(timezone.now)


class SuppressionFactory(DjangoModelFactory):
    class Meta:
        model = models.Suppression

    tenant = factory.SubFactory(TenantFactory)
    address = factory.Sequence("gone{}@outside.example".format)


class NoticeFactory(DjangoModelFactory):
    class Meta:
        model = models.Notice

    message = factory.SubFactory(MessageFactory)
    tenant = factory.SelfAttribute("message.tenant")
    kind = models.Notice.Kind.DSN
    recipients = factory.LazyFunction(
        lambda: [{"address": "someone@outside.example", "code": "550", "text": "No such user", "status": "failed"}]
    )
    next_attempt_at = factory.LazyFunction(timezone.now)
    created_at = factory.LazyFunction(timezone.now)


class WebhookFactory(DjangoModelFactory):
    """`url` is a Receiver's; the secret is `secret`."""

    class Meta:
        model = models.Webhook

    class Params:
        secret = "whsec_of_a_test"

    tenant = factory.SubFactory(TenantFactory)
    name = factory.Sequence("webhook {}".format)
    url = "https://hooks.outside.example/in"
    secrets = factory.LazyAttribute(lambda webhook: {"current": webhook.secret})


class WebhookDeliveryFactory(DjangoModelFactory):
    class Meta:
        model = models.WebhookDelivery

    webhook = factory.SubFactory(WebhookFactory)
    tenant = factory.SelfAttribute("webhook.tenant")
    event = factory.SubFactory(EventFactory, message__account__tenant=factory.SelfAttribute("....tenant"))
    next_attempt_at = factory.LazyAttribute(lambda delivery: timezone.now() if delivery.status == "pending" else None)
    status = models.WebhookDelivery.Status.PENDING
    created_at = factory.LazyFunction(timezone.now)


class ArchiveCopyFactory(DjangoModelFactory):
    """A copy that is still to be made."""

    class Meta:
        model = models.ArchiveCopy

    message = factory.SubFactory(MessageFactory)
    tenant = factory.SelfAttribute("message.tenant")
    account = factory.SelfAttribute("message.account")
    delivery_log = factory.SubFactory(DeliveryLogFactory, message=factory.SelfAttribute("..message"))
    created_at = factory.LazyFunction(timezone.now)


class RefusedSessionFactory(DjangoModelFactory):
    class Meta:
        model = models.RefusedSession

    tenant = factory.SubFactory(TenantFactory)
    reason = "sender_not_allowed"
    reply = "550 5.7.1 This account may not send from this address"
    client_ip = "192.0.2.10"
    created_at = factory.LazyFunction(timezone.now)
    last_at = factory.SelfAttribute("created_at")
