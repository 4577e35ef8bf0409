"""What tests of the web app are made of: a service of three sources, and deliveries signed as GitLab does."""

import asyncio
import base64
import hashlib
import hmac
import json
from collections.abc import Iterable, Mapping
from pathlib import Path

import msgspec

from imagechain.chain import Chain, Dependency, Graph, Policy, Problem, Source, VersionRead
from imagechain.gitlab.hook_secrets import HookOwner, HookSecrets
from imagechain.service.known import Known
from imagechain.service.ports import Scan
from imagechain.store import BuildRow, Change, Store
from imagechain.web import Measure

HOOK_KEY = b"0123456789abcdef0123456789abcdef"
API_TOKEN = "letmein"
NOW = 1_700_000_000.0
SECRETS = HookSecrets(HOOK_KEY)
EXAMPLES = Path(__file__).parents[3] / "shared" / "gitlab" / "webhooks"


def _dependency(child: str, parent: str) -> Dependency:
    return Dependency(
        child=child, parent=parent, kind="from", file="Containerfile", line=1, image=f"r.io/{parent}:latest"
    )


SCAN = Scan(
    projects=(),
    sources=(
        Source(id="images/app", kind="project", images=("r.io/images/app:latest",), file="Containerfile"),
        Source(id="images/base", kind="project", images=("r.io/images/base:latest",), file="Containerfile"),
        Source(id="r.io/debian:12", kind="external", images=("r.io/debian:12",)),
    ),
    dependencies=(
        _dependency("images/app", "images/base"),
        Dependency(
            child="images/base",
            parent="r.io/debian:12",
            kind="from",
            file="Containerfile",
            line=1,
            image="r.io/debian:12",
        ),
    ),
    problems=(Problem(file="images/app/.gitlab-ci.yml", line=3, message="it is no YAML"),),
)


class FakeService:
    """A service whose loop never turns by itself."""

    def __init__(self) -> None:
        self.unannounced = 0
        self.chain: Chain | None = Chain(Graph(SCAN.sources, SCAN.dependencies), Policy())
        self.chain.apply(VersionRead(input="r.io/debian:12", version="v1", at=NOW - 100))
        self.turned_at = NOW
        self.gitlab_down_since: float | None = None
        self.gitlab_trouble = ""
        self.wakes = 0

    async def known(self) -> Known | None:
        if self.chain is None:
            return None
        return Known(chain=self.chain, scan=SCAN, unannounced=self.unannounced)

    def wake(self) -> None:
        self.wakes += 1

    def measures(self) -> Iterable[Measure]:
        return [
            Measure(name="hooks_missed", help="Changes that no hook told.", value=3, kind="counter"),
            Measure(name="budget", help="Requests left.", value=7, labels=(("host", "gitlab"),)),
            Measure(name="budget", help="Requests left.", value=9, labels=(("host", "registry"),)),
        ]


def write_builds(store: Store, *builds: BuildRow) -> None:
    """Put builds into the history."""

    async def write() -> None:
        lease = await store.take_lease("me", 30, NOW)
        assert lease is not None
        await store.write(Change(builds=builds), lease)

    asyncio.run(write())


def pipeline_body(project_id: int = 7, pipeline_id: int = 31, **more: object) -> bytes:
    return json.dumps(
        {
            "object_kind": "pipeline",
            "object_attributes": {"id": pipeline_id, "status": "success"},
            "project": {"id": project_id, "path_with_namespace": "images/base"},
            **more,
        }
    ).encode()


def sign(signing_token: str, id: str, timestamp: str, body: bytes) -> str:
    """Sign as the specification of Standard Webhooks says, written once more."""
    key = base64.b64decode(signing_token.split("_", 1)[1])
    digest = hmac.new(key, f"{id}.{timestamp}.".encode() + body, hashlib.sha256).digest()
    return "v1," + base64.b64encode(digest).decode()


def signed(
    body: bytes, owner: HookOwner = 7, id: str = "d1", at: float = NOW, secrets: HookSecrets = SECRETS
) -> dict[str, str]:
    """Give the headers of a delivery of GitLab 19."""
    timestamp = str(int(at))
    return {
        "Content-Type": "application/json",
        "webhook-id": id,
        "Idempotency-Key": id,
        "webhook-timestamp": timestamp,
        "webhook-signature": sign(secrets.signing_token(owner), id, timestamp, body),
        "X-Gitlab-Event-UUID": "13792a34-cac6-4fda-95a8-c58e00a3954e",
    }


def with_token(project_id: int = 7, id: str | None = "d1") -> dict[str, str]:
    """Give the headers of a delivery of an older GitLab."""
    headers = {"X-Gitlab-Token": SECRETS.token(project_id)}
    return headers if id is None else {**headers, "Idempotency-Key": id}


def decoded(body: bytes) -> Mapping[str, object]:
    return msgspec.json.decode(body, type=dict[str, object])
