"""What the admin shows of this floor; each page has a module of its own."""

from __future__ import annotations

from django.contrib import admin
from django.contrib.auth.models import Group

from accounts import account_admin, api_key_admin, audit_admin, quota_admin, tenants_admin, user_admin
from accounts.models import AuditEntry, QuotaWarning

__all__ = ("account_admin", "api_key_admin", "tenants_admin", "user_admin")

admin.site.site_header = admin.site.site_title = "smtpproxy"
admin.site.site_url = None
admin.site.register(AuditEntry, audit_admin.AuditEntryAdmin)
admin.site.register(QuotaWarning, quota_admin.QuotaWarningAdmin)
admin.site.unregister(Group)  # what people may do follows from their role
