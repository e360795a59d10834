"""Amazon SES, API v2 (https://docs.aws.amazon.com/ses/latest/APIReference-V2/API_SendEmail.html)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from providers import destinations
from providers.backends import ses_content, ses_errors
from providers.backends.ses_request import SesClient, region
from providers.backends.structured import NOT_SENT
from providers.base import (
    Backend,
    ConfigField,
    OutboundMessage,
    Quota,
    RecipientResult,
    RecipientStatus,
    SendResult,
)
from providers.envelope import ascii_address, groups, has_utf8_local_part, same
from providers.exceptions import BadSettings, ProviderError, TemporaryFailure, Unsupported
from providers.fidelity import Fidelity, Verdict
from providers.http import Answer
from providers.scrub import scrub
from providers.webhooks import fields
from providers.wire import is_signed

_TAG = re.compile(r"[A-Za-z0-9_-]{1,256}")  # …/APIReference-V2/API_MessageTag.html
_USUAL_LOCAL_PART = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(?:\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*")


class SesBackend(Backend):
    """At most 50 recipients and 40 MB. The service knows no idempotency key."""

    type = "ses"
    config_fields = (
        ConfigField("region", "Region", required=True, check=region, help="For example eu-central-1."),
        ConfigField(
            "access_key_id",
            "Access key ID",
            kind="secret",
            help="Empty: the server's own AWS credentials; for shared providers only.",
        ),
        ConfigField("secret_access_key", "Secret access key", kind="secret"),
        ConfigField("session_token", "Session token", kind="secret", help="Of temporary credentials."),
        ConfigField("configuration_set", "Configuration set", help="Needed for events."),
        ConfigField(
            "format",
            "Format",
            kind="choice",
            choices=("auto", "raw", "simple"),
            default="auto",
            help="auto: plain messages taken apart, all others byte for byte; raw: all byte for byte.",
        ),
        ConfigField(
            "seven_bit",
            "Encode 8-bit text",
            kind="bool",
            default=False,
            help="For a configuration set that tracks opens or clicks, which damages 8-bit text.",
        ),
        ConfigField(
            "bounces_to_sender",
            "Bounces to the envelope sender",
            kind="bool",
            default=True,
            help="SES must have verified that address as well. Off: bounces go to the From address.",
        ),
        ConfigField("identity_arn", "Identity ARN", help="For sending authorization: somebody else's identity."),
        ConfigField("base_url", "Base URL", help="Empty: Amazon's own in the region.", check=destinations.base_url),
        *fields.SES,
    )
    max_recipients = ses_content.MAX_RECIPIENTS
    # Of the message with its attachments encoded: https://docs.aws.amazon.com/ses/latest/dg/quotas.html and
    # https://docs.aws.amazon.com/ses/latest/dg/manage-sending-quotas.html
    max_size = 40 * 1024 * 1024
    reads_quota = True

    def __init__(self, config: Mapping[str, Any], *, timeout: float = 30.0) -> None:
        super().__init__(config, timeout=timeout)
        if self.config["access_key_id"] and not self.config["secret_access_key"]:
            raise BadSettings({"secret_access_key": "required with an access key ID"})
        if not self.config["access_key_id"] and (self.config["secret_access_key"] or self.config["session_token"]):
            raise BadSettings({"access_key_id": "required with a secret access key"})
        self._format: str = self.config["format"]
        self.takes_raw = self._format == "raw"
        self._client = SesClient(self.config, timeout=timeout)
        self._worked = False

    @classmethod
    def reserved(cls, config: Mapping[str, Any]) -> Mapping[str, str]:
        if config.get("access_key_id"):
            return {}
        return {"access_key_id": "required: the server's own AWS credentials are for shared providers only"}

    # Before sending

    def split(self, message: OutboundMessage) -> list[tuple[str, ...]]:
        """An address the service may refuse, and a whole call with it, gets a call of its own."""
        if self._format == "simple":
            content = message.content
            return groups(content.to, content.cc, message.recipients, ses_content.ABILITIES.limits)
        usual = [address for address in message.recipients if _is_usual(address)]
        size = self.max_recipients
        calls = [tuple(usual[start : start + size]) for start in range(0, len(usual), size)]
        return calls + [(address,) for address in message.recipients if not _is_usual(address)]

    def verdict(self, message: OutboundMessage) -> Verdict:
        try:
            return self._written(message)[1]
        except ProviderError:
            return Verdict(Fidelity.LOSSLESS if self.takes_raw else Fidelity.MAPPED)  # `send` says why it cannot be

    def _written(self, message: OutboundMessage) -> tuple[dict[str, Any], Verdict]:
        """The parameters that say this message, and what becomes of it."""
        if self._format == "raw" or (self._format == "auto" and not self._is_plain(message)):
            try:
                return ses_content.raw(message, seven_bit=self.config["seven_bit"])
            except Unsupported:
                # Better taken apart than not at all, but never what was signed.
                if self._format == "raw" or is_signed(message.raw):
                    raise
        letter = ses_content.simple(message)
        return ses_content.simple_parameters(letter), ses_content.simple_verdict(letter)

    @staticmethod
    def _is_plain(message: OutboundMessage) -> bool:
        try:
            return ses_content.says_all(ses_content.simple(message), message)
        except ProviderError:
            return False

    # Sending

    def send(self, message: OutboundMessage) -> SendResult:
        parameters = {**self._written(message)[0], **self._envelope(message)}
        answer = self._client.call("SendEmail", parameters)
        if not 200 <= answer.status < 300:
            return self._refused(answer, message)
        body = answer.json()
        message_id = scrub(str(body.get("MessageId") or "")) if isinstance(body, dict) else ""
        if not message_id:
            raise _unreadable(answer)
        self._worked = True
        return SendResult.all_delivered(message.recipients, message_id, status_code=answer.status, text=answer.reason)

    def _envelope(self, message: OutboundMessage) -> dict[str, Any]:
        """What is said besides content and recipients: where bounces go, whose identity it is, and how to find the
        message again when the service tells what became of it."""
        settings = self.config
        tags = {"smtpproxy-message": message.message_id, "smtpproxy-attempt": message.idempotency_key}
        said: dict[str, Any] = {
            "EmailTags": [{"Name": name, "Value": tag} for name, tag in tags.items() if _TAG.fullmatch(tag)]
        }
        if settings["configuration_set"]:
            said["ConfigurationSetName"] = settings["configuration_set"]
        if settings["identity_arn"]:
            said["FromEmailAddressIdentityArn"] = settings["identity_arn"]
        sender = message.mail_from
        if sender and settings["bounces_to_sender"]:
            if has_utf8_local_part(sender):
                raise Unsupported(f"Amazon SES cannot write the sender {sender!r}.", code="smtputf8_required")
            said["FeedbackForwardingEmailAddress"] = ascii_address(sender)
            if settings["identity_arn"]:
                said["FeedbackForwardingEmailAddressIdentityArn"] = settings["identity_arn"]
        return said

    def _refused(self, answer: Answer, message: OutboundMessage) -> SendResult:
        """Fail the recipients that are to blame and put off the others; otherwise raise what the answer means.

        While an account is in the sandbox, recipients have to be verified as well.
        """
        text = scrub(f"{answer.reason}: {ses_errors.words(answer)}", self.secrets)
        failure = ses_errors.failure(answer, worked=self._worked, secrets=self.secrets)
        if failure.code == "sender_not_verified":
            named = {same(identity) for identity in ses_errors.unverified(ses_errors.words(answer))}
            bad = [recipient for recipient in message.recipients if same(recipient) in named]
            if bad and len(bad) == len(message.recipients):
                raise Unsupported(text, code="recipient_not_verified", status_code=answer.status)
        elif ses_errors.blames_address(answer):  # see `split`
            bad = [recipient for recipient in message.recipients if not _is_usual(recipient)]
            failure = Unsupported(text, code="bad_address", status_code=answer.status)  # in the header
        else:
            bad = []
        if not bad:
            raise failure
        one = RecipientResult(RecipientStatus.FAILED, code="bad_recipient", text=text)
        results = {recipient: one if recipient in bad else NOT_SENT for recipient in message.recipients}
        return SendResult(results, status_code=answer.status, text=text)

    # Asking

    def check_connection(self) -> str:
        account = self._account()
        access = "production access" if account.get("ProductionAccessEnabled") else "sandbox: verified addresses only"
        sending = "on" if account.get("SendingEnabled") else "off"
        quota, enforcement = self._quota(account), account.get("EnforcementStatus") or "unknown"
        day = "unlimited" if quota.per_day is None else f"{quota.per_day:,}"
        rate = "unlimited" if quota.per_second is None else f"{quota.per_second:g}"
        return scrub(
            f"Account status {enforcement}, sending {sending}, {access}; {quota.sent:,} of {day} recipients used in "
            f"24 hours, {rate} a second.",
            self.secrets,
        )

    def quota(self) -> Quota:
        return self._quota(self._account())

    def _account(self) -> dict[str, Any]:
        """https://docs.aws.amazon.com/ses/latest/APIReference-V2/API_GetAccount.html"""
        answer = self._client.call("GetAccount", {})
        if not 200 <= answer.status < 300:
            raise ses_errors.failure(answer, worked=False, secrets=self.secrets)
        body = answer.json()
        if not isinstance(body, dict) or not isinstance(body.get("SendQuota"), dict):
            raise TemporaryFailure(f"{answer.reason}, but not an answer of this service.", code="bad_answer")
        return body

    @staticmethod
    def _quota(account: Mapping[str, Any]) -> Quota:
        def limit(name: str) -> float | None:
            value = account["SendQuota"].get(name)
            known = isinstance(value, int | float) and not isinstance(value, bool) and value >= 0  # -1: no limit
            return float(value) if known else None

        per_day = limit("Max24HourSend")
        return Quota(
            limit("MaxSendRate"), None if per_day is None else int(per_day), int(limit("SentLast24Hours") or 0)
        )

    def close(self) -> None:
        self._client.close()


def _is_usual(address: str) -> bool:
    return bool(_USUAL_LOCAL_PART.fullmatch(address.rpartition("@")[0]))


def _unreadable(answer: Answer) -> TemporaryFailure:
    return TemporaryFailure(
        f"{answer.reason}, but not an answer of this service.",
        code="bad_answer",
        status_code=answer.status,
        outcome_unknown=True,
    )
