from images.stores import buildah_store, empty_store

__all__ = ["buildah_store", "empty_store"]
