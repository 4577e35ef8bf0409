from registry.servers import open_registry

__all__ = ["open_registry"]
