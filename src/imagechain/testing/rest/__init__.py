"""The calls of the simulated REST API, by subject."""

from imagechain.testing.rest import (
    artifacts,
    collaboration,
    coordinator,
    hooks,
    pipelines,
    projects,
    registry,
    repository,
    schedules,
)

ENDPOINTS = (
    *projects.ENDPOINTS,
    *repository.ENDPOINTS,
    *pipelines.ENDPOINTS,
    *schedules.ENDPOINTS,
    *hooks.ENDPOINTS,
    *registry.ENDPOINTS,
    *collaboration.ENDPOINTS,
    *coordinator.ENDPOINTS,
    *artifacts.ENDPOINTS,
)
