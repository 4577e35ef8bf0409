"""A small GitLab in memory: projects with branches and files, the calls that a scan makes, and chosen faults.

It answers by the shape of the queries that this program sends. The simulated GitLab of `imagechain.testing`
is the faithful one; this one is small enough to fail in each way on purpose.
"""

import hashlib
import json
import re
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import httpx2

from imagechain.gitlab.client import Client

if TYPE_CHECKING:
    from collections.abc import Callable

URL = "https://gitlab.example.com"
TOKEN = "glpat-token"
REGISTRY = "registry.example.com"


def oid(text: str) -> str:
    data = text.encode()
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()


class FakeGitLab:
    """Projects by path; each has its branches, these their files."""

    def __init__(self) -> None:
        self.projects: dict[str, dict[str, dict[str, str]]] = {}
        self.ids: dict[str, int] = {}
        self.archived: set[str] = set()
        #: Listed in every group, as if they were shared with it.
        self.shared: set[str] = set()
        self.default_branch = "main"
        #: Settings of projects, where they are not the default.
        self.ci_paths: dict[str, str] = {}
        self.lints: dict[str, dict[str, Any]] = {}
        self.requests: list[httpx2.Request] = []
        #: Asked before each request; gives an answer to be sent instead.
        self.fault: Callable[[httpx2.Request], httpx2.Response | None] = lambda _: None
        #: GraphQL fails on any batch in which such a project is.
        self.poisoned: set[str] = set()
        #: Over REST, too.
        self.broken: set[str] = set()
        self.links: set[tuple[str, str]] = set()

    def add(self, path: str, files: dict[str, str] | None = None, branch: str = "main") -> None:
        self.ids.setdefault(path, max(self.ids.values(), default=0) + 1)
        branches = self.projects.setdefault(path, {})
        if files is not None:
            branches[branch] = dict(files)

    def client(self, **options: Any) -> Client:
        async def no_sleep(_: float) -> None:
            return

        given = {"sleep": no_sleep, **options}
        return Client(URL, lambda: TOKEN, transport=httpx2.MockTransport(self.answer), **given)

    def asked(self, part: str) -> int:
        """Count the requests whose path and body contain a text."""
        return sum(part in unquote(str(one.url)) + one.content.decode() for one in self.requests)

    def answer(self, request: httpx2.Request) -> httpx2.Response:
        self.requests.append(request)
        if (response := self.fault(request)) is not None:
            return response
        if request.headers["PRIVATE-TOKEN"] != TOKEN:
            return httpx2.Response(401, json={"message": "401 Unauthorized"})
        path = request.url.raw_path.decode().partition("?")[0]
        if path == "/api/graphql":
            return self._graphql(json.loads(request.content))
        if path == "/api/v4/version":
            return httpx2.Response(200, json={"version": "19.0.0"})
        match = re.fullmatch(r"/api/v4/projects/([^/]+)(/.*)?", path)
        assert match is not None, path
        key = unquote(match[1])
        name = next((name for name, id in self.ids.items() if key in {name, str(id)}), None)
        if name is None:
            return httpx2.Response(404, json={"message": "404 Project Not Found"})
        if name in self.broken:
            return httpx2.Response(500, json={"message": "500 Internal Server Error"})
        return self._rest(name, unquote(match[2] or ""), dict(request.url.params))

    def _rest(self, name: str, rest: str, params: dict[str, str]) -> httpx2.Response:
        branches = self.projects[name]
        if rest == "":
            return httpx2.Response(
                200,
                json={
                    "id": self.ids[name],
                    "path_with_namespace": name,
                    "default_branch": self.default_branch if self.default_branch in branches else None,
                    "container_registry_image_prefix": f"{REGISTRY}/{name.lower()}",
                },
            )
        if rest == "/repository/tree":
            assert params["pagination"] == "none"
            assert params["recursive"] == "true"
            rows = [
                {"path": path, "id": oid(text), "type": "blob"}
                for path, text in branches[params["ref"]].items()
            ]
            return httpx2.Response(200, json=rows)
        if rest == "/ci/lint":
            return httpx2.Response(200, json=self.lints.get(name, {"valid": True, "merged_yaml": "---\n"}))
        if match := re.fullmatch(r"/repository/branches/(.*)", rest):
            if match[1] not in branches:
                return httpx2.Response(404, json={"message": "404 Branch Not Found"})
            return httpx2.Response(
                200, json={"name": match[1], "commit": {"id": self.commit(name, match[1])}}
            )
        match = re.fullmatch(r"/repository/files/(.*)/raw", rest)
        assert match is not None, rest
        return httpx2.Response(200, text=branches[params["ref"]][match[1]])

    def commit(self, name: str, branch: str) -> str:
        text = json.dumps([name, branch, sorted(self.projects[name][branch].items())])
        return hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()

    def _graphql(self, body: dict[str, Any]) -> httpx2.Response:
        query, variables = body["query"], body["variables"]
        assert len(query) <= 10_000
        assert variables["n"] <= 100
        names = [
            name
            for name in self.projects
            if (name.startswith(f"{variables['group']}/") or name in self.shared)
            and not ("includeArchived: false" in query and name in self.archived)
        ]
        start = int(variables.get("after") or 0)
        if "ids" in variables:
            names = [name for name in names if f"gid://gitlab/Project/{self.ids[name]}" in variables["ids"]]
        page = names[start : start + variables["n"]]
        if "repository" in query and self.poisoned & set(page):
            return httpx2.Response(500, json={"message": "500 Internal Server Error"})
        if not names and "ids" not in variables:
            return httpx2.Response(200, json={"data": {"group": None}})
        end = start + len(page)
        projects = {
            "pageInfo": {"hasNextPage": end < len(names), "endCursor": str(end)},
            "nodes": [self._node(name, query, variables) for name in page],
        }
        return httpx2.Response(200, json={"data": {"group": {"projects": projects}}})

    def _node(self, name: str, query: str, variables: dict[str, Any]) -> dict[str, Any]:
        node: dict[str, Any] = {
            "id": f"gid://gitlab/Project/{self.ids[name]}",
            "fullPath": name,
            "archived": name in self.archived,
            "ciConfigPathOrDefault": self.ci_paths.get(name, ".gitlab-ci.yml"),
        }
        branches = self.projects[name]
        files = branches.get(variables.get("ref") or self.default_branch, {})
        if "rawTextBlob" in query:
            blobs = [
                {"path": path, "size": len(files[path].encode()), "rawTextBlob": files[path]}
                for path in variables["paths"]
                if path in files
            ]
            node["repository"] = {"blobs": {"nodes": blobs}}
        elif "recursive: true" in query:
            rows = [
                {"path": path, "sha": oid(text), "mode": "120000" if (name, path) in self.links else "100644"}
                for path, text in files.items()
            ]
            info = {"hasNextPage": len(rows) > 100, "endCursor": "100"}
            node["repository"] = {"tree": {"blobs": {"nodes": rows[:100], "pageInfo": info}}}
        elif "rootRef" in query:
            node["repository"] = self._heads(name, variables)
        return node

    def _heads(self, name: str, variables: dict[str, Any]) -> dict[str, Any]:
        branches = self.projects[name]

        def tree(branch: str) -> dict[str, Any]:
            return {"lastCommit": {"sha": self.commit(name, branch)} if branch in branches else None}

        aliases = {key: tree(value) for key, value in variables.items() if re.fullmatch(r"b\d+", key)}
        root = self.default_branch if self.default_branch in branches else None
        return {"rootRef": root, "tree": tree(self.default_branch), **aliases}
