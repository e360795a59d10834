"""The queues in SQS, which we use but do not make: whether they are as they must be (QUE-3)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from typing import Any
from urllib.parse import urlsplit

import boto3
from botocore.client import Config
from botocore.exceptions import ClientError
from django.conf import settings

from smtpproxy.brokers import names

_WANTED = ["VisibilityTimeout", "RedrivePolicy"]
_MISSING = {"AWS.SimpleQueueService.NonExistentQueue", "QueueDoesNotExist"}


def client() -> Any:
    """A client of the service behind SQS_QUEUE_URL, for any thread; credentials come from the usual AWS chain."""
    address = urlsplit(settings.SQS_QUEUE_URL)
    return _client(f"{address.scheme}://{address.netloc}", settings.BROKER.options["region"])


@cache
def _client(endpoint: str, region: str) -> Any:
    config = Config(**settings.BROKER.options["client-config"])
    return boto3.session.Session().client("sqs", region_name=region, endpoint_url=endpoint, config=config)


def url(queue: str) -> str:
    return names.sqs_url(settings.SQS_QUEUE_URL, queue)


def faults(queues: list[str]) -> Iterator[str]:
    """What is wrong with these queues, a sentence each. Raises botocore's errors when the service does not answer."""
    for queue in queues:
        try:
            found = client().get_queue_attributes(QueueUrl=url(queue), AttributeNames=_WANTED).get("Attributes", {})
        except ClientError as error:
            code = error.response["Error"]["Code"]
            yield f"There is no queue {url(queue)}." if code in _MISSING else f"{url(queue)} cannot be read: {code}."
            continue
        yield from _faults(url(queue), int(found["VisibilityTimeout"]), found.get("RedrivePolicy"))


def _faults(address: str, visibility: int, policy: str | None) -> Iterator[str]:
    if visibility <= settings.DELIVERY_LEASE:
        yield (
            f"The VisibilityTimeout of {address} ({visibility} s) is not above DELIVERY_LEASE "
            f"({settings.DELIVERY_LEASE:g} s)."
        )
    if policy is None:
        yield f"{address} has no RedrivePolicy: a ring that kills its worker would come back for ever."
    elif settings.SQS_DLQ_URL:
        target = json.loads(policy).get("deadLetterTargetArn", "").rpartition(":")[2]
        if target != settings.SQS_DLQ_URL.rpartition("/")[2]:
            yield f"The RedrivePolicy of {address} names {target}, and SQS_DLQ_URL another queue."
