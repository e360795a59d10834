"""The admin as a whole: its theme, and what its pages share."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:  # unfold has no types; its site is Django's with a theme
    from django.contrib.admin import AdminSite as UnfoldAdminSite
else:
    from unfold.sites import UnfoldAdminSite


class AdminSite(UnfoldAdminSite):
    """Django's admin in the theme of django-unfold, which brings every asset along (ADM-1)."""
