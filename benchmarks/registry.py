"""How many tags a second are checked by HEAD, against bare keep-alive connections and skopeo, in one run.

Run: `python benchmarks/registry.py [TAGS]`. Needs docker-registry, which it starts on loopback; skopeo is
compared where it is installed. The ratios are what to compare: on loopback all is processor time, and the
registry itself takes a part of it. The second part gives the registry an answer time, as real ones have.
"""

import asyncio
import contextlib
import hashlib
import http.client
import json
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2

from imagechain.config import RegistrySettings
from imagechain.refs import Platform, parse_reference
from imagechain.registry import RegistryClient
from imagechain.registry.access import CONNECTIONS_PER_REGISTRY_MAX
from imagechain.registry.manifest import ACCEPT, OCI_MANIFEST

TAGS = 400
SKOPEO_TAGS = 20
ANSWER_SECONDS = 0.05
REPOSITORY = "group/base"


def main() -> None:
    tags = int(sys.argv[1]) if sys.argv[1:] else TAGS
    with run_registry() as address:
        names = push(address, tags)
        bare = best(lambda: bare_heads(address, names, connections=1))
        threads = best(lambda: bare_heads(address, names, connections=CONNECTIONS_PER_REGISTRY_MAX))
        ours = best(lambda: asyncio.run(heads(address, names)))
        print(f"{tags} HEADs at docker-registry on loopback:")
        report("http.client, one kept connection (baseline)", tags / bare, tags / bare)
        report(f"http.client, {CONNECTIONS_PER_REGISTRY_MAX} threads", tags / threads, tags / bare)
        report("imagechain", tags / ours, tags / bare)
        images = best(lambda: asyncio.run(images_again(address, names)))
        report("imagechain, whole images known by digest", tags / images, tags / bare)
        if shutil.which("skopeo"):
            report("skopeo inspect", SKOPEO_TAGS / skopeo(address, names[:SKOPEO_TAGS]), tags / bare)
    far = asyncio.run(heads_far_away(names))
    one_by_one = tags * ANSWER_SECONDS
    print(f"\n{tags} HEADs with {ANSWER_SECONDS * 1000:.0f} ms answer time:")
    report("one after the other (baseline)", tags / one_by_one, tags / one_by_one)
    report("imagechain", tags / far, tags / one_by_one)


def report(name: str, rate: float, baseline: float) -> None:
    print(f"  {name:45} {rate:8.0f}/s  {rate / baseline:6.2f} x")


def best(measure: Callable[[], float]) -> float:
    return min(measure() for _ in range(3))


def bare_heads(address: str, names: list[str], *, connections: int) -> float:
    def ask(part: list[str]) -> None:
        connection = http.client.HTTPConnection(address)
        for name in part:
            connection.request("HEAD", f"/v2/{REPOSITORY}/manifests/{name}", headers={"Accept": ACCEPT})
            response = connection.getresponse()
            response.read()
            assert response.headers["Docker-Content-Digest"]
        connection.close()

    begun = time.perf_counter()
    with ThreadPoolExecutor(connections) as pool:
        list(pool.map(ask, [names[start::connections] for start in range(connections)]))
    return time.perf_counter() - begun


async def timed(names: list[str], ask: Callable[[str], Awaitable[object]]) -> float:
    await ask(names[0])
    begun = time.perf_counter()
    await asyncio.gather(*(ask(name) for name in names))
    return time.perf_counter() - begun


def settings(address: str) -> dict[str, RegistrySettings]:
    return {address: RegistrySettings(insecure=True, requests_per_minute_max=10_000_000)}


async def heads(address: str, names: list[str]) -> float:
    async with RegistryClient(settings=settings(address)) as client:
        return await timed(names, lambda name: client.head(parse_reference(f"{address}/{REPOSITORY}:{name}")))


async def images_again(address: str, names: list[str]) -> float:
    platform = Platform("linux", "amd64")
    async with RegistryClient(settings=settings(address)) as client:
        return await timed(
            names, lambda name: client.image(parse_reference(f"{address}/{REPOSITORY}:{name}"), platform)
        )


async def heads_far_away(names: list[str]) -> float:
    async def answer(_: httpx2.Request) -> httpx2.Response:
        await asyncio.sleep(ANSWER_SECONDS)
        return httpx2.Response(200, headers={"docker-content-digest": "sha256:" + "0" * 64})

    address = "registry.example.com"
    transport = httpx2.MockTransport(answer)
    async with RegistryClient(settings=settings(address), transport=transport) as client:
        return await timed(names, lambda name: client.head(parse_reference(f"{address}/{REPOSITORY}:{name}")))


def skopeo(address: str, names: list[str]) -> float:
    options = ("--tls-verify=false", "--no-tags", "--raw")
    begun = time.perf_counter()
    for name in names:
        command = ["skopeo", "inspect", *options, f"docker://{address}/{REPOSITORY}:{name}"]
        subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - begun


def push(address: str, tags: int) -> list[str]:
    """Push one small image under many tags."""
    config = json.dumps({"os": "linux", "architecture": "amd64", "rootfs": {"diff_ids": []}}).encode()
    digest = "sha256:" + hashlib.sha256(config).hexdigest()
    media_type = "application/vnd.oci.image.config.v1+json"
    descriptor = {"mediaType": media_type, "digest": digest, "size": len(config)}
    manifest = json.dumps({"schemaVersion": 2, "config": descriptor, "layers": []}).encode()
    names = [f"v{number}" for number in range(tags)]
    with httpx2.Client(base_url=f"http://{address}/v2/{REPOSITORY}/") as client:
        upload = httpx2.URL(client.post("blobs/uploads/").headers["Location"])
        client.put(upload.copy_merge_params({"digest": digest}), content=config).raise_for_status()
        for name in names:
            headers = {"Content-Type": OCI_MANIFEST}
            client.put(f"manifests/{name}", content=manifest, headers=headers).raise_for_status()
    return names


@contextlib.contextmanager
def run_registry() -> Iterator[str]:
    """Run docker-registry as long as it is needed."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{listener.getsockname()[1]}"
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "config.yml"
        storage = {"filesystem": {"rootdirectory": f"{folder}/data"}}
        log = {"accesslog": {"disabled": True}, "level": "error"}
        # JSON is YAML.
        file.write_text(
            json.dumps({"version": 0.1, "log": log, "storage": storage, "http": {"addr": address}})
        )
        command = ["docker-registry", "serve", str(file)]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            while True:
                with contextlib.suppress(httpx2.TransportError):
                    httpx2.get(f"http://{address}/v2/")
                    break
                time.sleep(0.05)
            yield address
        finally:
            process.kill()
            process.wait()


if __name__ == "__main__":
    main()
