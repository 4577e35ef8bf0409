"""Edges of the graph: who publishes what a project is built from."""

from collections.abc import Iterable, Mapping

from imagechain.chain.values import Dependency, Problem, Source
from imagechain.containerfile import Dialect
from imagechain.refs import DEFAULT_DOMAIN, DEFAULT_TAG, OFFICIAL_NAMESPACE, Reference, parse_reference

_LOCAL_DOMAIN = "localhost"
_EXTERNAL_PREFIX = "external:"


class Edges:
    """Collects dependencies, and the external sources and the problems that come with them."""

    def __init__(
        self, images: Mapping[str, Iterable[str]], dialect: Dialect, *, short_names_are_near: bool = True
    ) -> None:
        """Collect for projects that publish these `images`, each of which only one project publishes.

        Where the projects stand beside each other, a short name may be meant for one of them.
        """
        self.dependencies: list[Dependency] = []
        self.problems: list[Problem] = []
        self._dialect = dialect
        self._short_names_are_near = short_names_are_near
        self._projects = images.keys()
        self._external: dict[str, Source] = {}
        self._by_image: dict[str, str] = {}
        self._by_name: dict[str, list[str]] = {}
        #: Last component and tag of an image -> the image.
        self._by_ending: dict[str, str] = {}
        for project, references in images.items():
            for image in references:
                self._by_image[image] = project
                publishers = self._by_name.setdefault(parse_reference(image).name, [])
                if project not in publishers:
                    publishers.append(project)
                self._by_ending.setdefault(image[image.rfind("/") + 1 :], image)

    def externals(self) -> Iterable[Source]:
        """List the sources that no project publishes."""
        return self._external.values()

    def add_external(self, name: str, images: tuple[str, ...] = ()) -> str:
        """Add a source that is no project of the tree; gives its id, which is its name."""
        # A folder may be called like an image: `quay.io/x/Dockerfile.1` is the project `quay.io/x:1`.
        source_id = name if name not in self._projects else f"{_EXTERNAL_PREFIX}{name}"
        self._external.setdefault(source_id, Source(id=source_id, kind="external", images=images))
        return source_id

    def resolve(self, image: str, written: str, file: str, line: int) -> tuple[str, str]:
        """Tell which image is meant, normalised, and the id of its source.

        Raises:
            ReferenceError: it is no image reference.
        """
        reference = parse_reference(image)
        if self._short_names_are_near and reference.domain == DEFAULT_DOMAIN and "/" not in written:
            reference, hint = self._short_name(reference)
            if hint is not None:
                self.problems.append(Problem(file=file, line=line, message=hint))
        return str(reference), self._source(reference)

    def _source(self, reference: Reference) -> str:
        identity = reference.identity
        project = self._by_image.get(identity)
        if project is None and reference.tag is None:
            project = self._by_image.get(f"{reference.name}:{DEFAULT_TAG}")
            publishers = self._by_name.get(reference.name, [])
            if project is None and len(publishers) == 1:
                project = publishers[0]
        if project is not None:
            return project
        return self.add_external(identity, (identity,))

    def _short_name(self, reference: Reference) -> tuple[Reference, str | None]:
        """Read a short name such as `base`, and say so if that may surprise beside a folder `base`.

        It is an image of Docker Hub for BuildKit; buildah prefers a local image of that name.
        """
        ending = f"{reference.path.removeprefix(OFFICIAL_NAMESPACE)}:{reference.tag}"
        local = f"{_LOCAL_DOMAIN}/{ending}"
        published = local if local in self._by_image else self._by_ending.get(ending)
        if published is None or reference.identity in self._by_image:
            return reference, None
        if published == local and self._dialect == "buildah" and reference.digest is None:
            hint = f"buildah takes {local} of this tree, BuildKit {reference.name}; write {local}"
            return parse_reference(local), hint
        return reference, f"{reference.name} is meant here, not this tree's image; for that write {published}"
