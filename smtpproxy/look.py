"""The look of the admin beyond its theme: our colour, our icon, our style sheet, all served by us (ADM-1)."""

from django.http import HttpRequest
from django.templatetags.static import static

COLORS = {
    "primary": {
        "50": "#f0f8fd",
        "100": "#dceffa",
        "200": "#bde1f5",
        "300": "#8ccbed",
        "400": "#55aee0",
        "500": "#3093ca",
        "600": "#1a75aa",
        "700": "#155e8b",
        "800": "#164f73",
        "900": "#184360",
        "950": "#0f2b40",
    }
}
"""Blue; white on 600, and 600 on white, have a contrast of 4.5 at least."""


def icon(request: HttpRequest) -> str:  # noqa: ARG001
    return static("smtpproxy/favicon.svg")


def style(request: HttpRequest) -> str:  # noqa: ARG001
    return static("smtpproxy/site.css")
