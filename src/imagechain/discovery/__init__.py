"""Discovery: from a tree of files to projects, what each publishes, and what each is built from."""

from imagechain.discovery.values import Discovery, DiscoveryError, LocalProject

__all__ = ["Discovery", "DiscoveryError", "LocalProject"]
