"""Strict stand-ins of outside services: real servers on loopback that refuse what the vendor refuses.

    with SendGridStandIn() as service:
        backend = registry.connect("sendgrid", service.config())
        ...
        assert service.accepted[0].recipients == [...]

HTTP stand-ins share the class `StandIn` (see http.py there), the mail server is `SmtpSink`.
"""

from providers.tests.standins.brevo import BrevoStandIn
from providers.tests.standins.graph import GraphStandIn
from providers.tests.standins.http import Accepted, File, StandIn
from providers.tests.standins.mailersend import MailerSendStandIn
from providers.tests.standins.mailgun import MailgunStandIn
from providers.tests.standins.mailjet import MailjetStandIn
from providers.tests.standins.mailtrap import MailtrapStandIn
from providers.tests.standins.mandrill import MandrillStandIn
from providers.tests.standins.postal import PostalStandIn
from providers.tests.standins.postmark import PostmarkStandIn
from providers.tests.standins.resend import ResendStandIn
from providers.tests.standins.scaleway import ScalewayStandIn
from providers.tests.standins.sendgrid import SendGridStandIn
from providers.tests.standins.ses import SesStandIn
from providers.tests.standins.smtp import SmtpSink
from providers.tests.standins.sparkpost import SparkPostStandIn

__all__ = [
    "Accepted",
    "BrevoStandIn",
    "File",
    "GraphStandIn",
    "MailerSendStandIn",
    "MailgunStandIn",
    "MailjetStandIn",
    "MailtrapStandIn",
    "MandrillStandIn",
    "PostalStandIn",
    "PostmarkStandIn",
    "ResendStandIn",
    "ScalewayStandIn",
    "SendGridStandIn",
    "SesStandIn",
    "SmtpSink",
    "SparkPostStandIn",
    "StandIn",
]
