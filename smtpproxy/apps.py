from django.apps import AppConfig


class SmtpproxyConfig(AppConfig):
    name = "smtpproxy"
    verbose_name = "smtpproxy"
