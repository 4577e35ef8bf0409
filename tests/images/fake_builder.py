"""A builder in memory, with the contract of the real ones: for tests of order, failure and interruption.

It understands a few instructions: `FROM ref`, `COPY file dest`, `COPY --from=ref ...`, `RUN sleep SECONDS`,
`RUN fail`, `RUN kill` (as if the builder was killed), `RUN nothing` (adds no content), `RUN anything else`.
"""

import asyncio
import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from imagechain.images import (
    BuilderError,
    BuildFailedError,
    BuildRequest,
    ImageFacts,
    Listing,
    StoredImage,
)
from imagechain.refs import Platform


class FakeBuilder:
    """A `Builder` whose store is a dictionary."""

    program = "fake"

    def __init__(self) -> None:
        self.images: dict[str, ImageFacts] = {}
        self.names: dict[str, str] = {}
        #: What registries have: reference -> content.
        self.registry: dict[str, str] = {}
        self.pushed: list[str] = []
        #: What happened, in order: ("start" | "end" | "pull" | "sweep", first name).
        self.events: list[tuple[str, str]] = []
        self.running = 0
        self.running_max = 0
        self.calls = 0
        #: Set when the build of this name begins.
        self.began = asyncio.Event()
        self.began_name = ""
        #: Called while a build runs, with its first name.
        self.during: Callable[[str], object] = str

    async def prepare(self, cache_folder: Path) -> str:  # noqa: ARG002 - the interface's
        return "fake"

    async def list_images(self) -> Listing:
        self.calls += 1
        named: dict[str, list[str]] = {image_id: [] for image_id in self.images}
        for name, image_id in self.names.items():
            named[image_id].append(name)
        return Listing.of(
            [StoredImage(image, tuple(names), f"sha256:d{image[1:]}") for image, names in named.items()]
        )

    async def read_image(self, image: str) -> ImageFacts:
        self.calls += 1
        image_id = self.names.get(image, image)
        if image_id not in self.images:
            raise BuilderError(f"no image {image}")
        return self.images[image_id]

    async def pull(self, reference: str, platform: Platform | None = None) -> str:  # noqa: ARG002
        self.events.append(("pull", reference))
        await asyncio.sleep(0.01)
        if reference not in self.registry:
            raise BuilderError("the registry does not know it")
        return self.add(reference, self.registry[reference])

    def add(self, name: str, content: str, on_build: tuple[str, ...] = ()) -> str:
        """Put an image into the store, as a person would."""
        facts = self._facts((content,), {}, on_build)
        self.names[name] = facts.id
        return facts.id

    async def build(self, request: BuildRequest, write_log: Callable[[bytes], None]) -> ImageFacts:
        name = request.names[0]
        self.events.append(("start", name))
        if name == self.began_name:
            self.began.set()
        self.running += 1
        self.running_max = max(self.running, self.running_max)
        try:
            layers: list[str] = []
            for line in request.containerfile.read_text().splitlines():
                write_log(f"STEP {line}\n".encode())
                if line == "RUN fail":
                    write_log(b'Error: building at STEP "RUN fail": exit status 1\n')
                layers += await self._step(line.split(), request, layers)
            self.during(name)
        finally:
            self.running -= 1
            self.events.append(("end", name))
        facts = self._facts(tuple(layers), dict(request.labels), ())
        for each in request.names:
            self.names[each] = facts.id
        return facts

    async def _step(self, words: list[str], request: BuildRequest, layers: list[str]) -> list[str]:
        match words:
            case ["FROM", "scratch", *_]:
                layers.clear()
            case ["FROM", reference, *_]:
                layers.clear()
                return list(self.images[request.pins[reference]].diff_ids)
            case ["COPY", source, *_] if source.startswith("--from="):
                return [self.images[request.pins[source.removeprefix("--from=")]].content]
            case ["COPY", source, *_]:
                return [(request.context / source).read_text()]
            case ["RUN", "sleep", seconds]:
                await asyncio.sleep(float(seconds))
            case ["RUN", "fail"]:
                raise BuildFailedError("fake ended with exit code 1")
            case ["RUN", "kill"]:
                raise BuildFailedError("fake was killed by SIGKILL")
            case ["RUN", "nothing"] | ["#", *_] | []:
                pass
            case ["RUN", *rest]:
                return [" ".join(rest)]
        return []

    def _facts(
        self, layers: tuple[str, ...], labels: dict[str, str], on_build: tuple[str, ...]
    ) -> ImageFacts:
        content = _hash(layers)
        image_id = _hash((layers, sorted(labels.items())))
        facts = ImageFacts(id=image_id, content=content, labels=labels, diff_ids=layers, on_build=on_build)
        self.images[image_id] = facts
        return facts

    async def push(self, image_id: str, name: str, work: Path) -> str:  # noqa: ARG002
        if name.startswith("refused."):
            raise BuilderError("the registry said no")
        self.pushed.append(name)
        return f"sha256:{_hash(self.names[name])}"

    async def remove(self, image_ids: Sequence[str]) -> None:
        for image_id in image_ids:
            self.images.pop(image_id, None)

    async def tidy(self) -> None:
        self.events.append(("tidy", ""))

    async def sweep(self, is_leftover: Callable[[str], bool]) -> int:  # noqa: ARG002
        self.events.append(("sweep", ""))
        return 0

    def started(self) -> list[str]:
        """The builds that were started, in order, as ids of projects."""
        return [
            name.removeprefix("localhost/").removesuffix(":latest")
            for kind, name in self.events
            if kind == "start"
        ]


def _hash(value: object) -> str:
    return hashlib.sha256(msgspec.json.encode(value)).hexdigest()
