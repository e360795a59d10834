"""What Django itself answers where no view does: in the API's shape below /api/, else its own pages (API-3)."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views import defaults

from accounts.api.errors import body

API = "/api/"


def bad_request(request: HttpRequest, exception: Exception, *args: Any) -> HttpResponse:
    if request.path_info.startswith(API):
        return JsonResponse(body("bad_request", "This is no request that can be understood."), status=400)
    return defaults.bad_request(request, exception, *args)


def forbidden(request: HttpRequest, exception: Exception, *args: Any) -> HttpResponse:
    if request.path_info.startswith(API):
        return JsonResponse(body("permission_denied", "This is not allowed."), status=403)
    return defaults.permission_denied(request, exception, *args)


def not_found(request: HttpRequest, exception: Exception, *args: Any) -> HttpResponse:
    if request.path_info.startswith(API):
        return JsonResponse(body("not_found", "There is nothing at this address."), status=404)
    return defaults.page_not_found(request, exception, *args)


def server_error(request: HttpRequest, *args: Any) -> HttpResponse:
    if request.path_info.startswith(API):
        return JsonResponse(body("error", "Something went wrong on our side; it is in the log."), status=500)
    return defaults.server_error(request, *args)
