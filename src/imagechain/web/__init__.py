"""The HTTP side of the service: webhooks in, the API, metrics."""
