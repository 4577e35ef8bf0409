"""The real docker-registry on loopback, with or without a login."""

import base64
import json
import socket
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

USER, PASSWORD = "reader", "s3cret-of-the-registry"
#: Their bcrypt hash, which is the only kind that docker-registry takes.
HTPASSWD = "reader:$2y$05$abcdefghijklmnopqrstuuW1e3orFpi1hSyUIjjQsvB7886Cb.S5.\n"


class Registry:
    """A registry that ends with `stop`."""

    def __init__(self, folder: Path, *, htpasswd: str = "") -> None:
        folder.mkdir(parents=True)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        auth = ""
        if htpasswd:
            (folder / "htpasswd").write_text(htpasswd)
            auth = f"auth:\n  htpasswd:\n    realm: tests\n    path: {folder}/htpasswd\n"
        (folder / "config.yml").write_text(
            f"version: 0.1\nlog:\n  level: error\nstorage:\n  filesystem:\n    rootdirectory: {folder}/data\n"
            f"http:\n  addr: 127.0.0.1:{self.port}\n{auth}"
        )
        self.host = f"127.0.0.1:{self.port}"
        self._process = subprocess.Popen(
            ["docker-registry", "serve", str(folder / "config.yml")],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for _ in range(200):
            try:
                urllib.request.urlopen(f"http://{self.host}/v2/", timeout=1).close()
            except urllib.error.HTTPError as error:
                error.close()
                return
            except OSError:
                time.sleep(0.05)
            else:
                return
        raise AssertionError("docker-registry has not started")

    def stop(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()


def auth_config(host: str, user: str = USER, password: str = PASSWORD) -> str:
    """Return what a person puts into DOCKER_AUTH_CONFIG."""
    auth = base64.b64encode(f"{user}:{password}".encode()).decode()
    return json.dumps({"auths": {host: {"auth": auth}}})
