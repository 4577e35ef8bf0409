"""A mirror of many tags, against `skopeo sync` in the same run: from nothing, nothing moved, one tag moved.

Run: `python benchmarks/mirror.py [TAGS]`. Needs docker-registry, two of which it starts on loopback, and
skopeo. Requests for manifests at the source are counted in its access log. Whole commands are measured, their
start included; where nothing moved, the start of Python is most of ours, so the work alone is measured too.
Sources of mirrors are not on loopback: at last each answer of the source takes 20 ms, as over the Internet.
"""

import asyncio
import contextlib
import hashlib
import json
import os
import random
import resource
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx2

from imagechain.config import load_settings
from imagechain.mirror.sync import Syncer
from imagechain.registry import RegistryClient

TAGS = 50
LAYER_BYTES = 200_000
ROUNDS = 3
#: From a request to the source until its answer may come, where it is far away.
FAR_SECONDS = 0.02
SETTINGS = "imagechain.toml"
OCI = "application/vnd.oci.image"


class Registry:
    """A docker-registry and its access log."""

    def __init__(self, address: str, log: Path) -> None:
        self.address, self.log = address, log

    def manifest_gets(self) -> int:
        """Count the manifests that were fetched so far."""
        lines = self.log.read_text().splitlines()
        return sum('"GET /v2/' in line and "/manifests/" in line and 'HTTP/1.1" ' in line for line in lines)


def main() -> None:
    tags = int(sys.argv[1]) if sys.argv[1:] else TAGS
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with run_registry(folder / "source") as source, run_registry(folder / "target") as target:
            for number in range(tags):
                push(source, f"v{number}", number)
            runs = {
                "skopeo sync": skopeo(folder, source, target, tags),
                "imagechain": ours(folder, source, target),
            }
            for title in ("from nothing", "nothing moved", "one tag moved"):
                print(f"{title}: {tags} tags of two platforms")
                baseline = 0.0
                for program, command in runs.items():
                    rounds = 1 if title == "from nothing" else ROUNDS
                    seconds: list[tuple[float, float]] = []
                    gets = 0
                    for number in range(rounds):
                        if title == "one tag moved":
                            push(source, "v0", tags + number + 10 * len(program))
                        before = source.manifest_gets()
                        seconds.append(timed(command))
                        gets = source.manifest_gets() - before
                    wall, processor = (min(column) for column in zip(*seconds, strict=True))
                    baseline = baseline or wall
                    print(
                        f"  {program:12} {wall:7.2f} s  {baseline / wall:5.2f} x  {gets:4} GETs of manifests"
                        f"  ({processor:.2f} s of processor)"
                    )
                if title == "nothing moved":
                    work = min(asyncio.run(work_alone(folder)) for _ in range(ROUNDS))
                    print(f"  {'its work':12} {work:7.2f} s  {baseline / work:5.2f} x")
            with far(source.address) as address:
                away_ms = round(FAR_SECONDS * 1000)
                print(f"nothing moved, the source {away_ms} ms away: {tags} tags of two platforms")
                baseline = 0.0
                away = Registry(address, source.log)
                for program, command in {
                    "skopeo sync": skopeo(folder, away, target, tags),
                    "imagechain": ours(folder, away, target),
                }.items():
                    before = source.manifest_gets()
                    wall = min(timed(command)[0] for _ in range(ROUNDS))
                    gets = (source.manifest_gets() - before) // ROUNDS
                    baseline = baseline or wall
                    print(
                        f"  {program:12} {wall:7.2f} s  {baseline / wall:5.2f} x  {gets:4} GETs of manifests"
                    )


@contextlib.contextmanager
def far(address: str) -> Iterator[str]:
    """Stand before a server, and hand everything on after half of the time in either direction."""

    async def hand_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        loop = asyncio.get_running_loop()
        while data := await reader.read(65536):
            loop.call_later(FAR_SECONDS / 2, writer.write, data)
        loop.call_later(FAR_SECONDS / 2, writer.close)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there_reader, there_writer = await asyncio.open_connection(*address.split(":"))
        with contextlib.suppress(ConnectionError):
            await asyncio.gather(hand_on(reader, there_writer), hand_on(there_reader, writer))

    loop = asyncio.new_event_loop()
    server = loop.run_until_complete(asyncio.start_server(serve, "127.0.0.1", 0))
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    loop.call_soon_threadsafe(loop.stop)
    thread.join()


async def work_alone(folder: Path) -> float:
    """Do what the command does, without starting it; into the target that it has written."""
    settings = load_settings(folder / SETTINGS, {})
    begun = time.perf_counter()
    async with RegistryClient(settings=settings.registry) as client:
        results = await Syncer(client, now=time.time).sync(settings.mirror)
    assert {result.outcome for found in results.values() for result in found} == {"same"}
    return time.perf_counter() - begun


def timed(command: list[str]) -> tuple[float, float]:
    """Run a command; give its time, and that of the processor for it: others may be busy here too."""
    before, begun = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    # An installed program has its modules compiled.
    environ = {**os.environ, "PYTHONDONTWRITEBYTECODE": ""}
    subprocess.run(command, check=True, capture_output=True, env=environ)
    seconds, after = time.perf_counter() - begun, resource.getrusage(resource.RUSAGE_CHILDREN)
    return seconds, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def skopeo(folder: Path, source: Registry, target: Registry, tags: int) -> list[str]:
    """Write the command, with its list of tags; into a repository of its own."""
    listed = {
        source.address: {"tls-verify": False, "images": {"group/image": [f"v{n}" for n in range(tags)]}}
    }
    file = folder / "skopeo.yml"
    # JSON is YAML.
    file.write_text(json.dumps(listed))
    options = ["--all", "--preserve-digests", "--src", "yaml", "--dest", "docker", "--dest-tls-verify=false"]
    return ["skopeo", "sync", *options, str(file), f"{target.address}/skopeo"]


def ours(folder: Path, source: Registry, target: Registry) -> list[str]:
    file = folder / SETTINGS
    file.write_text(
        f'state_dir = "{folder}/state"\n'
        f'[[mirror]]\nsource = "{source.address}/group/image"\ntarget = "{target.address}/ours/image"\n'
        'tags = ["v*"]\nkeep_previous = 0\n'
        + "".join(f'[registry."{one.address}"]\ninsecure = true\n' for one in (source, target))
    )
    program = Path(sys.executable).with_name("imagechain")
    return [str(program), "mirror", "sync", "--config", str(file)]


def push(registry: Registry, tag: str, number: int) -> None:
    """Push an index of two images, each with a layer of its own."""
    with httpx2.Client(base_url=f"http://{registry.address}/v2/group/image/") as client:
        entries = []
        for architecture in ("amd64", "arm64"):
            layer = random.Random(f"{number} {architecture}").randbytes(LAYER_BYTES)
            layers = {"type": "layers", "diff_ids": [digest(layer)]}
            config = {"os": "linux", "architecture": architecture, "rootfs": layers}
            manifest = {
                "schemaVersion": 2,
                "mediaType": f"{OCI}.manifest.v1+json",
                "config": blob(client, json.dumps(config).encode(), f"{OCI}.config.v1+json"),
                "layers": [blob(client, layer, f"{OCI}.layer.v1.tar")],
            }
            entry = put(client, None, json.dumps(manifest).encode(), f"{OCI}.manifest.v1+json")
            entries.append(entry | {"platform": {"os": "linux", "architecture": architecture}})
        media_type = f"{OCI}.index.v1+json"
        index = {"schemaVersion": 2, "mediaType": media_type, "manifests": entries}
        put(client, tag, json.dumps(index).encode(), media_type)


def blob(client: httpx2.Client, data: bytes, media_type: str) -> dict[str, object]:
    upload = httpx2.URL(client.post("blobs/uploads/").headers["Location"])
    client.put(upload.copy_merge_params({"digest": digest(data)}), content=data).raise_for_status()
    return {"mediaType": media_type, "digest": digest(data), "size": len(data)}


def put(client: httpx2.Client, tag: str | None, data: bytes, media_type: str) -> dict[str, object]:
    headers = {"Content-Type": media_type}
    client.put(f"manifests/{tag or digest(data)}", content=data, headers=headers).raise_for_status()
    return {"mediaType": media_type, "digest": digest(data), "size": len(data)}


def digest(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


@contextlib.contextmanager
def run_registry(folder: Path) -> Iterator[Registry]:
    """Run docker-registry as long as it is needed."""
    folder.mkdir()
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{listener.getsockname()[1]}"
    file, log = folder / "config.yml", folder / "log"
    storage = {"filesystem": {"rootdirectory": f"{folder}/data"}}
    file.write_text(json.dumps({"version": 0.1, "storage": storage, "http": {"addr": address}}))
    with log.open("wb") as stream:
        process = subprocess.Popen(["docker-registry", "serve", str(file)], stdout=stream, stderr=stream)
    try:
        while True:
            with contextlib.suppress(httpx2.TransportError):
                httpx2.get(f"http://{address}/v2/")
                break
            time.sleep(0.05)
        yield Registry(address, log)
    finally:
        process.kill()
        process.wait()


if __name__ == "__main__":
    main()
