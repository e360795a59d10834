"""The REST API: every endpoint below `/api/v1/`, by the floor it belongs to."""

from django.urls import URLPattern, URLResolver, path
from drf_spectacular.views import SpectacularAPIView
from rest_framework.routers import SimpleRouter

from accounts.api import endpoints as accounts
from delivery.api import endpoints as delivery
from providers.api import endpoints as providers

router = SimpleRouter()
# With and without the slash: a redirect would lose what was posted.
router.trailing_slash = "/?"
for floor in (accounts, providers, delivery):
    floor.register(router)

urlpatterns: list[URLPattern | URLResolver] = [
    path("schema/", SpectacularAPIView.as_view(authentication_classes=[], permission_classes=[]), name="api-schema"),
    *accounts.urlpatterns,
    *delivery.urlpatterns,
    *router.urls,
]
