"""The HTTP of the service: webhooks of GitLab, the API, the dashboard, health and metrics."""

from imagechain.web.app import make_app
from imagechain.web.ports import Measure, Service, Store

__all__ = ["Measure", "Service", "Store", "make_app"]
