"""A simulated GitLab, so that tests and people can try imagechain without a server."""
