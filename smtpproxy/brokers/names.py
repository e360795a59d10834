"""What our queues are called in SQS, which knows letters, digits, `-` and `_` only, and where its region is told."""

from __future__ import annotations

import os
import re
from urllib.parse import urlsplit

from delivery import queues

PRIMARY = queues.FRESH
"""The queue that SQS_QUEUE_URL names."""

_HOST = re.compile(r"(?:^|\.)sqs\.([a-z0-9-]+)\.(?:vpce\.)?(?:amazonaws|api\.aws)|^([a-z0-9-]+)\.queue\.amazonaws\.")


def sqs_name(queue: str) -> str:
    return queue.replace(".", "-")


def sqs_url(queue_url: str, queue: str) -> str:
    """SQS_QUEUE_URL itself, or with `-` and the queue's name behind it: `…/mail`, `…/mail-outbound-retry`."""
    return queue_url if queue == PRIMARY else f"{queue_url}-{sqs_name(queue)}"


def region(given: str, queue_url: str) -> str:
    """SQS_REGION, else that in the host of the queue's URL, else what AWS's own variables say, else ""."""
    found = _HOST.search(urlsplit(queue_url).hostname or "")
    told = (found[1] or found[2]) if found else ""
    return given or told or os.environ.get("AWS_REGION", "") or os.environ.get("AWS_DEFAULT_REGION", "")
