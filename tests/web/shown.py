"""What the tests of the dashboard show: a service of any sources, and pages read as a browser reads them."""

import re
from collections.abc import Iterable, Sequence
from html.parser import HTMLParser

from imagechain.chain import Chain, Dependency, Graph, ImageFound, Policy, Problem, Source, VersionRead
from imagechain.service.known import Known
from imagechain.service.ports import Scan
from web.parts import NOW, FakeService

#: Elements that do not part words.
_INLINE = {"a", "code", "span", "strong", "time"}
#: Elements without an end.
_VOID = {"input", "link", "meta", "br", "path", "rect"}


def image_of(id: str) -> str:
    """Name the image of a project: what is no path of a repository is spelt out."""
    path = id if re.fullmatch(r"[a-z0-9]+([/-][a-z0-9]+)*", id) else id.encode().hex()
    return f"r.io/{path}:latest"


def project(id: str) -> Source:
    return Source(id=id, kind="project", images=(image_of(id),), file="Containerfile")


def built_from(child: str, parent: str) -> Dependency:
    image = image_of(parent)
    return Dependency(child=child, parent=parent, kind="from", file="Containerfile", line=1, image=image)


class ShownService(FakeService):
    """A service that knows these projects, each fresh, and what each is built from."""

    def __init__(self, edges: Iterable[tuple[str, str]], ids: Sequence[str] = ()) -> None:
        super().__init__()
        edges = tuple(edges)
        names = sorted({*ids, *(id for edge in edges for id in edge)})
        self.problems: tuple[Problem, ...] = ()
        self.unchecked: dict[str, str] = {}
        self.failing: dict[str, str] = {}
        self.scan = Scan(
            projects=(),
            sources=tuple(map(project, names)),
            dependencies=tuple(built_from(child, parent) for child, parent in edges),
        )
        self.chain = chain = Chain(Graph(self.scan.sources, self.scan.dependencies), Policy())
        for id in names:
            chain.apply(VersionRead(input=image_of(id), version="v1", at=NOW - 900))
        for id in names:
            chain.apply(ImageFound(project=id, at=NOW - 800, inputs=None))

    async def known(self) -> Known | None:
        if self.chain is None:
            return None
        scan = Scan(
            projects=(),
            sources=self.scan.sources,
            dependencies=self.scan.dependencies,
            problems=self.problems,
        )
        return Known(
            chain=self.chain,
            scan=scan,
            unannounced=self.unannounced,
            unchecked=dict(self.unchecked),
            failing=dict(self.failing),
        )

    def move(self, id: str, version: str = "v2", at: float = NOW - 600) -> None:
        assert self.chain is not None
        self.chain.apply(VersionRead(input=image_of(id), version=version, at=at))


class PageReader(HTMLParser):
    """What a page consists of; tags that are not closed in order are found out."""

    def __init__(self, page: str) -> None:
        super().__init__()
        #: Each element with its attributes.
        self.elements: list[tuple[str, dict[str, str]]] = []
        self._cells: list[list[str]] = []
        self.words: list[str] = []
        self._open: list[str] = []
        self.feed(page)
        self.close()
        assert self._open == [], "each element is closed"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag == "tr":
            self._cells.append([])
        elif tag in {"td", "th"}:
            self._cells[-1].append("")
        if tag not in _VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in _VOID:
            self._open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag
        if tag not in _INLINE:
            self.handle_data(" ")

    def handle_data(self, data: str) -> None:
        self.words.append(data)
        if {"td", "th"} & set(self._open):
            self._cells[-1][-1] += data

    @property
    def rows(self) -> list[list[str]]:
        """The text of each row of tables, by cells."""
        return [[" ".join(cell.split()) for cell in row] for row in self._cells]

    @property
    def text(self) -> str:
        return " ".join("".join(self.words).split())

    @property
    def links(self) -> list[str]:
        return [attributes["href"] for tag, attributes in self.elements if tag == "a"]
