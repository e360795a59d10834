#!/usr/bin/env python
"""Django's command line."""

import os
import sys

from django.core.exceptions import ImproperlyConfigured
from django.core.management import execute_from_command_line

if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "smtpproxy.settings")
    try:
        execute_from_command_line(sys.argv)
    except BrokenPipeError:  # such as `messages list | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is still to be flushed
        sys.exit(1)
    except ImproperlyConfigured as error:
        sys.exit(f"Wrong configuration: {error}")  # one line says which setting and what it may be (OPS-4)
