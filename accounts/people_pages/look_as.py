"""Choosing a tenant to look as, and going back; for platform operators."""

from __future__ import annotations

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.db.models import Q
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.template.response import TemplateResponse
from django.urls import reverse

from accounts import look_as
from accounts.models import Tenant
from accounts.tenant_admin import client_ip

MOST = 100
"""Tenants on the page; more are found by name."""


def page(request: HttpRequest) -> HttpResponse:
    """Tenants to choose from; a POST names the one, or none to go back."""
    if not look_as.as_oneself(request).is_superuser:
        raise PermissionDenied
    if request.method == "POST":
        return _change(request)
    wanted = request.GET.get("q", "").replace("\0", "").strip()
    tenants = Tenant.objects.filter(Q(name__icontains=wanted) | Q(slug__icontains=wanted))[: MOST + 1]
    context = {"title": "Look as a tenant", "tenants": tenants[:MOST], "more": len(tenants) > MOST, "wanted": wanted}
    return TemplateResponse(request, "admin/sign_in/look_as.html", {**admin.site.each_context(request), **context})


def _change(request: HttpRequest) -> HttpResponse:
    chosen = request.POST.get("tenant")
    with transaction.atomic():
        if chosen:
            tenant = get_object_or_404(Tenant, slug=chosen.replace("\0", ""))
            look_as.start(request, tenant, client_ip(request))
        else:
            look_as.stop(request, client_ip(request))
    if not chosen:
        messages.success(request, "You see all tenants again.")
    return HttpResponseRedirect(reverse("admin:index"))
