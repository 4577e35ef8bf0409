from images.docker_daemon import docker, docker_daemon
from images.stores import buildah_store, empty_store

__all__ = ["buildah_store", "docker", "docker_daemon", "empty_store"]
