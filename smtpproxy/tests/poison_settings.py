"""Settings of a worker with one more provider type, which kills its process when it meets a certain body."""

from providers import registry
from smtpproxy.settings import *  # noqa: F403

registry._PATHS["poison"] = "delivery.tests.poison.PoisonBackend"
