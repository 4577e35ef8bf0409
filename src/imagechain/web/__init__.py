"""The HTTP of the service: webhooks of GitLab, the API, health and metrics."""

from imagechain.web.app import make_app
from imagechain.web.hook_secrets import HookSecrets
from imagechain.web.ports import Measure, Service, Store

__all__ = ["HookSecrets", "Measure", "Service", "Store", "make_app"]
