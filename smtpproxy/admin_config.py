"""Names our own site to Django's admin. A module of its own, since Django looks for one configuration in an `apps`."""

from django.contrib.admin import apps


class AdminConfig(apps.AdminConfig):
    default = False
    default_site = "smtpproxy.admin_site.AdminSite"
