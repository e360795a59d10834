"""Events as the services document them, each for a given message id, recipient and moment.

The shapes are those of the vendors' own pages (named beside the receivers), shortened by what nobody here reads.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

KINDS = ("confirmed", "deferred", "bounced", "soft", "complained", "failed", "opened", "clicked", "unsubscribed")
WHEN = datetime(2026, 11, 20, 12, 30, 45, tzinfo=UTC)


def sendgrid(kind: str, id_: str, to: str, when: datetime, number: int = 1) -> Any:
    specifics: dict[str, dict[str, Any]] = {
        "confirmed": {"event": "delivered", "response": "250 OK"},
        "deferred": {"event": "deferred", "response": "400 try again later", "attempt": "5"},
        "bounced": {"event": "bounce", "type": "bounce", "status": "5.1.1", "reason": "550 5.1.1 no such user"},
        "soft": {"event": "bounce", "type": "blocked", "status": "4.0.0", "reason": "452 mailbox full"},
        "complained": {"event": "spamreport"},
        "failed": {"event": "dropped", "reason": "Bounced Address", "status": "5.0.0"},
        "opened": {"event": "open", "useragent": "Mozilla/4.0", "ip": "255.255.255.255"},
        "clicked": {"event": "click", "url": "http://www.sendgrid.com/", "ip": "255.255.255.255"},
        "unsubscribed": {"event": "unsubscribe"},
        "ignored": {"event": "processed"},
    }
    common = {
        "email": to,
        "timestamp": int(when.timestamp()),
        "smtp-id": f"<{id_}@geopod-ismtpd-2-0>",
        "category": ["cat facts"],
        "sg_event_id": f"c2dfZXZlbnRfaWQ{kind}{number}{to}",
        "sg_message_id": f"{id_}.filter0001.16648.5515E0B88.0",
    }
    return {**common, **specifics[kind]}


def ses(kind: str, id_: str, to: str, when: datetime, number: int = 1) -> Any:
    stamp = when.strftime("%Y-%m-%dT%H:%M:%S.000Z")
    mail = {
        "timestamp": stamp,
        "messageId": id_,
        "source": "crm@acme.example",
        "sourceArn": "arn:aws:ses:eu-west-1:123456789012:identity/acme.example",
        "destination": [to],
        "headersTruncated": False,
        "tags": {"ses:configuration-set": ["ConfigSet"]},
    }
    feedback = f"0102{number:04d}-{kind}-000000"

    def bounce(type_: str, sub: str, status: str, text: str) -> dict[str, Any]:
        who = {"emailAddress": to, "action": "failed", "status": status, "diagnosticCode": f"smtp; {text}"}
        about = {"feedbackId": feedback, "bounceType": type_, "bounceSubType": sub, "bouncedRecipients": [who]}
        return {"eventType": "Bounce", "bounce": {**about, "timestamp": stamp, "reportingMTA": "dsn; a1.amazonses.com"}}

    delayed = [{"emailAddress": to, "status": "4.4.1", "diagnosticCode": "smtp; 421 4.4.1 Unable to connect"}]
    specifics: dict[str, dict[str, Any]] = {
        "confirmed": {
            "eventType": "Delivery",
            "delivery": {"timestamp": stamp, "recipients": [to], "smtpResponse": "250 2.6.0 Message received"},
        },
        "deferred": {
            "eventType": "DeliveryDelay",
            "deliveryDelay": {"timestamp": stamp, "delayType": "TransientCommunicationFailure"}
            | {"expirationTime": stamp, "delayedRecipients": delayed},
        },
        "bounced": bounce("Permanent", "General", "5.1.1", "550 5.1.1 user unknown"),
        "soft": bounce("Transient", "MailboxFull", "4.2.2", "452 4.2.2 mailbox full"),
        "complained": {
            "eventType": "Complaint",
            "complaint": {"complainedRecipients": [{"emailAddress": to}], "timestamp": stamp, "feedbackId": feedback}
            | {"complaintFeedbackType": "abuse", "userAgent": "Amazon SES Mailbox Simulator"},
        },
        "failed": {"eventType": "Reject", "reject": {"reason": "Bad content"}},
        "opened": {"eventType": "Open", "open": {"ipAddress": "192.0.2.1", "timestamp": stamp, "userAgent": "Mozilla"}},
        "clicked": {
            "eventType": "Click",
            "click": {"ipAddress": "192.0.2.1", "timestamp": stamp, "link": "http://docs.aws.amazon.com/"},
        },
        "unsubscribed": {
            "eventType": "Subscription",
            "subscription": {
                "contactList": "ContactListName",
                "timestamp": stamp,
                "source": "UnsubscribeHeader",
                "newTopicPreferences": {"unsubscribeAll": True, "topicSubscriptionStatus": []},
            },
        },
        "ignored": {"eventType": "Send", "send": {}},
    }
    return {**specifics[kind], "mail": mail}


def mailgun(kind: str, id_: str, to: str, when: datetime, number: int = 1) -> Any:
    def failed(severity: str, reason: str, code: int, text: str) -> dict[str, Any]:
        status = {"code": code, "message": text, "description": "", "attempt-no": 1, "session-seconds": 0.1}
        return {"event": "failed", "severity": severity, "reason": reason, "delivery-status": status}

    specifics: dict[str, dict[str, Any]] = {
        "confirmed": {"event": "delivered", "delivery-status": {"code": 250, "message": "OK", "description": ""}},
        "deferred": failed("temporary", "generic", 452, "4.2.2 mailbox full"),
        "bounced": failed("permanent", "bounce", 550, "5.1.1 no such user"),
        "soft": failed("permanent", "old", 602, "Too old"),
        "complained": {"event": "complained"},
        "failed": {"event": "rejected", "reject": {"reason": "Sandbox", "description": ""}},
        "opened": {"event": "opened", "client-info": {"user-agent": "Mozilla/5.0"}},
        "clicked": {"event": "clicked", "url": "http://mailgun.com/", "client-info": {"user-agent": "Mozilla/5.0"}},
        "unsubscribed": {"event": "unsubscribed", "client-info": {"user-agent": "Mozilla/5.0"}},
        "ignored": {"event": "accepted"},
    }
    common = {
        "id": f"ase7i2zsRYeDXztHGENqRA{kind}{number}",
        "timestamp": when.timestamp(),
        "recipient": to,
        "recipient-domain": to.rpartition("@")[2],
        "message": {"headers": {"message-id": id_.strip("<>"), "to": to, "from": "crm@acme.example"}, "size": 111},
        "tags": ["my_tag_1"],
        "user-variables": {"my_var_1": "Mailgun Variable #1"},
        "log-level": "info",
    }
    return {**common, **specifics[kind]}


def postmark(kind: str, id_: str, to: str, when: datetime, number: int = 1) -> Any:
    stamp = when.strftime("%Y-%m-%dT%H:%M:%SZ")

    def bounce(type_: str, code: int, text: str, record: str = "Bounce") -> dict[str, Any]:
        about = {"RecordType": record, "Type": type_, "TypeCode": code, "Name": type_, "Email": to, "BouncedAt": stamp}
        return {**about, "ID": 4323372036854775800 + number, "Details": text, "Description": "…", "Inactive": True}

    opened = {"FirstOpen": True, "Recipient": to, "ReceivedAt": stamp, "UserAgent": "Mozilla"}
    specifics: dict[str, dict[str, Any]] = {
        "confirmed": {"RecordType": "Delivery", "Recipient": to, "DeliveredAt": stamp, "Details": "Test delivery"},
        "deferred": bounce("Transient", 2, "smtp;421 try again later"),
        "bounced": bounce("HardBounce", 1, "smtp;550 5.1.1 no such user"),
        "soft": bounce("SoftBounce", 4096, "smtp;452 mailbox full"),
        "complained": bounce("SpamComplaint", 512, "Test spam complaint details", "SpamComplaint"),
        "failed": bounce("Blocked", 100006, "blocked by ISP"),
        "opened": {"RecordType": "Open", **opened},
        "clicked": {"RecordType": "Click", **opened, "OriginalLink": "https://example.com/", "ClickLocation": "HTML"},
        "unsubscribed": {
            "RecordType": "SubscriptionChange",
            "Recipient": to,
            "Origin": "Recipient",
            "SuppressSending": True,
            "SuppressionReason": "ManualSuppression",
            "ChangedAt": stamp,
        },
        "ignored": bounce("AutoResponder", 8, "I am on holiday"),
    }
    return {"MessageID": id_, "ServerID": 23, "MessageStream": "outbound", "Metadata": {}, **specifics[kind]}


def mailjet(kind: str, id_: str, to: str, when: datetime, number: int = 1) -> Any:
    def bounce(error: str, *, hard: bool) -> dict[str, Any]:
        about = {"error_related_to": "recipient", "error": error, "comment": f"it says {error}"}
        return {"event": "bounce", "blocked": False, "hard_bounce": hard, **about}

    specifics: dict[str, dict[str, Any]] = {
        "confirmed": {"event": "sent", "smtp_reply": "sent (250 2.0.0 OK)"},
        "deferred": bounce("greylisted", hard=False),
        "bounced": bounce("user unknown", hard=True),
        "soft": bounce("quota exceeded", hard=False),
        "complained": {"event": "spam", "source": "JMRPP"},
        "failed": {"event": "blocked", "error_related_to": "mailjet", "error": "preblocked", "comment": "preblocked"},
        "opened": {"event": "open", "ip": "192.0.2.1", "geo": "US", "agent": "Mozilla/5.0"},
        "clicked": {"event": "click", "url": "https://mailjet.com", "ip": "192.0.2.1", "agent": "Mozilla/5.0"},
        "unsubscribed": {"event": "unsub", "mj_list_id": 1, "ip": "192.0.2.1"},
    }
    common = {
        "time": int(when.timestamp()) + number - 1,
        "MessageID": int(id_),
        "Message_GUID": "1ab23cd4-e567-8901-2345-6789f0gh1i2j",
        "email": to,
        "mj_campaign_id": 7257,
        "CustomID": "",
        "Payload": "",
    }
    return {**common, **specifics[kind]}


def brevo(kind: str, id_: str, to: str, when: datetime, number: int = 1) -> Any:
    names = {
        "confirmed": "delivered",
        "deferred": "deferred",
        "bounced": "hard_bounce",
        "soft": "soft_bounce",
        "complained": "spam",
        "failed": "blocked",
        "opened": "unique_opened",
        "clicked": "click",
        "unsubscribed": "unsubscribed",
        "ignored": "request",
    }
    common = {
        "id": 26224,
        "event": names[kind],
        "email": to,
        "date": "2026-11-20 13:30:45",
        "ts": int(when.timestamp()) + 3600,
        "ts_event": int(when.timestamp()) + 3600,
        "ts_epoch": int(when.timestamp() * 1000) + number - 1,
        "message-id": id_,
        "subject": "Greetings",
        "sending_ip": "185.41.28.109",
        "tags": ["transac_messages"],
    }
    more = {"deferred": "spam detected", "bounced": "550 no such user", "soft": "mailbox full", "failed": "blocked"}
    return common | (
        {"reason": more[kind]} if kind in more else {"link": "https://a.example"} if kind == "clicked" else {}
    )


def resend(kind: str, id_: str, to: str, when: datetime, number: int = 1) -> Any:
    names = {
        "confirmed": "email.delivered",
        "deferred": "email.delivery_delayed",
        "bounced": "email.bounced",
        "soft": "email.bounced",
        "complained": "email.complained",
        "failed": "email.failed",
        "opened": "email.opened",
        "clicked": "email.clicked",
        "ignored": "email.sent",
    }
    specifics: dict[str, dict[str, Any]] = {
        "bounced": {
            "bounce": {"message": "The recipient's server said no.", "type": "Permanent", "subType": "General"}
        },
        "soft": {
            "bounce": {"message": "The recipient's inbox was full.", "type": "Transient", "subType": "MailboxFull"}
        },
        "failed": {"failed": {"reason": "reached_daily_quota"}},
        "clicked": {"click": {"link": "https://resend.com", "ipAddress": "192.0.2.1", "userAgent": "Mozilla"}},
    }
    data = {"email_id": id_, "created_at": "2026-11-20 11:00:00.1+00", "from": "crm@acme.example", "to": [to]}
    stamp = when.strftime("%Y-%m-%dT%H:%M:%S.000Z")
    return {"type": names[kind], "created_at": stamp, "data": data | {"subject": "Hi"} | specifics.get(kind, {})}


def sparkpost(kind: str, id_: str, to: str, when: datetime, number: int = 1) -> Any:
    def bounce(class_: str, text: str) -> dict[str, Any]:
        return {"type": "bounce", "bounce_class": class_, "error_code": "550", "raw_reason": text, "reason": text}

    specifics: dict[str, tuple[str, dict[str, Any]]] = {
        "confirmed": ("message_event", {"type": "delivery", "queue_time": "12"}),
        "deferred": ("message_event", {"type": "delay", "bounce_class": "22", "raw_reason": "452 try again"}),
        "bounced": ("message_event", bounce("10", "550 5.1.1 no such user")),
        "soft": ("message_event", bounce("22", "552 mailbox full")),
        "complained": ("message_event", {"type": "spam_complaint", "fbtype": "abuse"}),
        "failed": ("message_event", {"type": "policy_rejection", "raw_reason": "MAIL REFUSED", "error_code": "550"}),
        "opened": ("track_event", {"type": "open", "user_agent": "Mozilla/5.0"}),
        "clicked": ("track_event", {"type": "click", "target_link_url": "http://example.com"}),
        "unsubscribed": ("unsubscribe_event", {"type": "list_unsubscribe", "mailfrom": "x@y.example"}),
        "ignored": ("message_event", {"type": "injection"}),
    }
    class_, more = specifics[kind]
    common = {
        "event_id": f"92356927693813856{number}{kind}",
        "message_id": "000443ee14578172be22",
        "transmission_id": id_,
        "rcpt_to": to.lower(),
        "raw_rcpt_to": to,
        "timestamp": str(int(when.timestamp())),
        "rcpt_meta": {},
    }
    return {"msys": {class_: common | more}}


def mailersend(kind: str, id_: str, to: str, when: datetime, number: int = 1) -> Any:
    names = {
        "confirmed": "delivered",
        "bounced": "hard_bounced",
        "soft": "soft_bounced",
        "complained": "spam_complaint",
        "opened": "opened",
        "clicked": "clicked",
        "unsubscribed": "unsubscribed",
        "ignored": "sent",
    }
    morphs = {
        "bounced": {"object": "recipient_bounce", "reason": "The email account does not exist"},
        "soft": {"object": "recipient_bounce", "reason": "Unknown reason", "readable_reason": "The mailbox is full"},
        "clicked": {"object": "click", "url": "https://www.mailersend.com"},
    }
    email = {
        "object": "email",
        "id": "62f114f8165fe0d8db0288e5",
        "message": {"object": "message", "id": id_},
        "recipient": {"object": "recipient", "id": "62c69be104270ee9c6074d22", "email": to},
        "tags": None,
    }
    activity = {
        "object": "activity",
        "id": f"62f114f8165fe0d8db02{number:04d}{kind}",
        "type": names[kind],
        "created_at": when.strftime("%Y-%m-%dT%H:%M:%S.000000Z"),
        "email": email,
        "morph": morphs.get(kind),
    }
    return {
        "type": f"activity.{names[kind]}",
        "created_at": activity["created_at"],
        "webhook_id": "x",
        "data": activity,
    }


def mandrill(kind: str, id_: str, to: str, when: datetime, number: int = 1) -> Any:
    names = {
        "confirmed": "delivered",
        "deferred": "deferral",
        "bounced": "hard_bounce",
        "soft": "soft_bounce",
        "complained": "spam",
        "failed": "reject",
        "opened": "open",
        "clicked": "click",
        "unsubscribed": "unsub",
        "ignored": "send",
    }
    message: dict[str, Any] = {
        "_id": id_,
        "ts": int(when.timestamp()) - 5,
        "email": to,
        "sender": "crm@acme.example",
        "subject": "Greetings",
        "tags": [],
        "metadata": [],
        "state": "sent",
    }
    if kind in {"bounced", "soft"}:
        message |= {"bounce_description": "bad_mailbox", "diag": "smtp;550 5.1.1 no such user", "bgtools_code": 10}
    event = {"event": names[kind], "_id": id_, "ts": int(when.timestamp()) + number - 1, "msg": message}
    return event | ({"url": "http://mandrill.com"} if kind == "clicked" else {})


def mailtrap(kind: str, id_: str, to: str, when: datetime, number: int = 1) -> Any:
    names = {
        "confirmed": "delivery",
        "deferred": "soft bounce",
        "bounced": "bounce",
        "complained": "spam",
        "failed": "reject",
        "opened": "open",
        "clicked": "click",
        "unsubscribed": "unsubscribe",
    }
    common = {
        "event": names[kind],
        "event_id": f"bede7236-2284-43d6-a953-1fdcafd0fd{number:02d}{kind}",
        "message_id": id_,
        "sending_stream": "transactional",
        "email": to,
        "timestamp": int(when.timestamp()),
    }
    if kind == "clicked":
        return common | {"url": "https://mailtrap.io"}
    return common | ({"response": "550 no such user", "response_code": 550} if kind == "bounced" else {})


def postal(kind: str, id_: str, to: str, when: datetime, number: int = 1) -> Any:
    message = {
        "id": int(id_),
        "token": "VQZfjvCyIUZi",
        "direction": "outgoing",
        "message_id": "5817a64332f44_4ec93ff59e79d154565eb@app34.mail",
        "to": to,
        "from": "crm@acme.example",
        "subject": "Welcome",
        "timestamp": when.timestamp(),
        "tag": "welcome",
    }
    names = {
        "confirmed": ("MessageSent", {"status": "Sent", "details": "accepted", "output": "250 2.0.0 OK"}),
        "deferred": ("MessageDelayed", {"status": "SoftFail", "output": "421 try again"}),
        "bounced": ("MessageDeliveryFailed", {"status": "HardFail", "output": "550 no such user"}),
        "soft": ("MessageDeliveryFailed", {"status": "HardFail", "details": "Maximum number of attempts"}),
        "opened": ("MessageLoaded", {"ip_address": "192.0.2.1", "user_agent": "Mozilla"}),
        "clicked": ("MessageLinkClicked", {"url": "https://postal.example", "ip_address": "192.0.2.1"}),
        "ignored": ("MessageHeld", {"status": "Held", "details": "held"}),
    }
    event, payload = names[kind]
    uuid = f"0adb4ed7-{number:04d}-{kind}"
    return {"event": event, "timestamp": when.timestamp(), "payload": payload | {"message": message}, "uuid": uuid}
