"""The REST API: every endpoint below `/api/v1/`, by the floor it belongs to."""

from django.urls import URLPattern, URLResolver, re_path
from drf_spectacular.views import SpectacularAPIView, SpectacularSwaggerSplitView
from rest_framework.routers import SimpleRouter

from accounts.api import endpoints as accounts
from delivery.api import endpoints as delivery
from providers.api import endpoints as providers
from smtpproxy.api_health import HealthView

router = SimpleRouter()
# With and without the slash: a redirect would lose what was posted.
router.trailing_slash = "/?"
for floor in (accounts, providers, delivery):
    floor.register(router)

urlpatterns: list[URLPattern | URLResolver] = [
    re_path("^schema/?$", SpectacularAPIView.as_view(), name="api-schema"),
    re_path("^docs/?$", SpectacularSwaggerSplitView.as_view(url_name="api-schema"), name="api-docs"),
    re_path("^health/?$", HealthView.as_view(), name="api-health"),
    *accounts.urlpatterns,
    *delivery.urlpatterns,
    *router.urls,
]
