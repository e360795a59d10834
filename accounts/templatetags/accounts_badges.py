"""Badges in templates: `{% badge "text" "good" %}` and `{% status word %}`."""

from django.template import Library

from accounts import badges

register = Library()
register.simple_tag(badges.badge, name="badge")
register.simple_tag(badges.status, name="status")
