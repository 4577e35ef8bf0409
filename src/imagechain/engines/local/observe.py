"""Read what is: the images of the local store, what they were built from, the files of the projects.

This is all that `status`, `explain` and `plan` need. Nothing is built, pulled or changed.
"""

import asyncio
import contextlib
import time
from collections.abc import Collection, Iterable, Mapping, Sequence

import msgspec

from imagechain.chain import Chain, Graph, local_policy
from imagechain.chain.values import (
    BUILD_KINDS,
    Dependency,
    DependencyKind,
    ImageFound,
    Source,
    VersionRead,
    WentInactive,
    files_input,
)
from imagechain.discovery import Discovery
from imagechain.engines.folders import Folders, read_hint
from imagechain.images import (
    Builder,
    BuilderError,
    FactsCache,
    ImageFacts,
    InputRecord,
    Listing,
    Recipe,
    RecipeError,
    StoredImage,
    read_recipe,
)
from imagechain.refs import parse_reference
from imagechain.refs.reference import ReferenceError
from imagechain.together import together

#: Kinds of dependencies whose image the builder reads.
_READ_BY_BUILDS: frozenset[DependencyKind] = BUILD_KINDS - {"declared"}
_READERS_MAX = 4
#: Stands for files that cannot be read: no recipe is like it, so the project is tried, and says why.
_UNREADABLE = "unreadable"


class LocalChain:
    """A chain of this machine, as it is now.

    Attributes:
        discovery, graph, chain: what was found, and what follows from it.
        listing: the local store, when it was listed last.
    """

    def __init__(self, discovery: Discovery, chain: Chain, builder: Builder, folders: Folders) -> None:
        self.discovery = discovery
        self.graph = chain.graph
        self.chain = chain
        self.listing = Listing.of(())
        self._builder = builder
        self._top = folders.top
        self._cache = FactsCache(folders.images_file)
        self._facts: dict[str, ImageFacts] = {}
        #: The versions that the chain was told, by input.
        self._told: dict[str, str | None] = {}
        edges = [edge for edges in self.graph.dependencies for edge in edges if edge.image is not None]
        self._pinned = sorted({str(edge.image) for edge in edges if edge.pinned})
        images = {image for source in self.graph.sources for image in source.images}
        images |= {parse_reference(str(edge.image)).identity for edge in edges}
        self._inputs = sorted(images)

    # --- questions ---------------------------------------------------------------------------------------

    def read_dependencies(self, project: str) -> list[Dependency]:
        """List the dependencies whose images the build of a project reads."""
        number = self.graph.number_of(project)
        return [
            dependency
            for dependency in self.graph.dependencies[number]
            if dependency.needed and dependency.image is not None and dependency.kind in _READ_BY_BUILDS
        ]

    def is_built_here(self, dependency: Dependency) -> bool:
        """Whether a dependency's image is a project's, so that its digest here is not the registry's."""
        parent = dependency.parent
        return (
            parent is None or self.graph.source(parent).kind == "project" or is_local(str(dependency.image))
        )

    def facts(self, reference: str) -> ImageFacts | None:
        """Give the facts of the image that a reference names, if it is in the local store."""
        image = self.listing.find(reference)
        return self._facts.get(image.id) if image else None

    def is_ours(self, image_id: str) -> bool:
        """Whether imagechain built an image."""
        facts = self._facts.get(image_id)
        return facts is not None and facts.recipe is not None

    def input_records(self, project: str, pushed: Mapping[str, str]) -> dict[str, InputRecord]:
        """Record what a build of a project that starts now is built from, by reference.

        Args:
            project: The project.
            pushed: Digests that images which are built here have in their registries, by reference.
        """
        built_here = {str(edge.image) for edge in self.read_dependencies(project) if self.is_built_here(edge)}
        references = {str(edge.image) for edge in self.read_dependencies(project)}
        declared = {
            name for name in self.graph.inputs_of(project) if name != files_input(project)
        } - references
        records = {}
        for reference in references | declared:
            image, facts = self.listing.find(reference), self.facts(reference)
            if image is not None and facts is not None:
                # The digest that the store gives an image which was built here is in no registry.
                is_ours = reference in built_here | declared
                digest = pushed.get(reference) if is_ours else image.digest
                records[reference] = InputRecord(digest or f"sha256:{image.id}", facts.content)
        return records

    @property
    def digests(self) -> dict[str, str]:
        """Digests of the images on this machine that the references of the graph name."""
        found = {
            reference.identity: self.listing.find(reference.identity)
            for edges in self.graph.dependencies
            for edge in edges
            if edge.pinned and (reference := parse_reference(str(edge.image))).tag
        }
        return {name: image.digest for name, image in found.items() if image is not None and image.digest}

    def read_recipe(self, project: str) -> Recipe:
        """Hash what a build of a project reads now.

        Raises:
            RecipeError: it cannot be read.
        """
        found = self.discovery.projects[project]
        if found.refused is not None:
            raise RecipeError(str(found.refused))
        bases = [
            self.facts(str(edge.image)) for edge in self.read_dependencies(project) if edge.kind == "from"
        ]
        # Triggers of a base copy what they like: then the whole context is read.
        has_triggers = any(base is not None and base.on_build for base in bases)
        return read_recipe(
            text=found.text,
            build_args=found.build_args,
            context=self._top / found.context,
            containerfile=self._top / found.file,
            sources=None if has_triggers else found.context_sources,
        )

    # --- reading -----------------------------------------------------------------------------------------

    async def read_store(self) -> None:
        """List the local store, read the images that the chain speaks of, and tell the chain what moved."""
        self.listing = await self._builder.list_images()
        found = (self.listing.find(reference) for reference in (*self._inputs, *self._pinned))
        await self._read_images({image.id for image in found if image is not None})
        for name in self._inputs:
            version = self.version(name)
            self.tell(name, version)

    def tell(self, name: str, version: str | None) -> None:
        """Tell the chain a version, if that is news."""
        if name not in self._told or self._told[name] != version:
            self._told[name] = version
            self.chain.apply(VersionRead(input=name, version=version, at=time.time()))

    def learn_built(self, facts: ImageFacts, names: Sequence[str]) -> None:
        """Take in an image that was just built; that saves listing the store after each build."""
        self._learn(facts)
        others = [
            msgspec.structs.replace(image, names=tuple(name for name in image.names if name not in names))
            for image in self.listing.images
            if image.id != facts.id
        ]
        self.listing = Listing.of([*others, StoredImage(facts.id, tuple(names))])

    def _learn(self, facts: ImageFacts) -> None:
        self._facts[facts.id] = facts
        self._cache.put(facts)

    def read_projects(self) -> None:
        """Read the files of all projects and what their images say they were built from; tell the chain."""
        now = time.time()
        for source in self.graph.sources:
            if source.kind != "project":
                continue
            if not source.images:
                # It publishes nothing, so there is nothing that could be old.
                self.chain.apply(WentInactive(project=source.id, at=now))
                continue
            self.observe_files(source.id)
            facts = self.facts(source.images[0])
            if facts is not None:
                self.chain.apply(
                    ImageFound(
                        project=source.id, at=now, inputs=recorded_inputs(source.id, facts), adopt=False
                    )
                )

    def observe_files(self, project: str) -> None:
        """Hash the files of one project and tell the chain."""
        try:
            version = self.read_recipe(project).hash
        except RecipeError:
            version = _UNREADABLE
        self.tell(files_input(project), version)

    def version(self, name: str) -> str | None:
        """Give the content key of the image that a reference names now; None where there is none."""
        facts = self.facts(name)
        if facts is None:
            return None
        publisher = self.graph.publisher[self.graph.input_number[name]]
        if publisher >= 0 and not _is_whole(self.graph.sources[publisher], name, self.listing):
            # Its names point to different images: naming them was cut short, and has to be done again.
            return None
        return facts.content

    def save_cache(self) -> None:
        """Keep what was read, to save reading it again."""
        self._cache.save()

    async def _read_images(self, ids: Collection[str]) -> None:
        unread = []
        for image_id in ids:
            if image_id not in self._facts:
                known = self._cache.get(image_id)
                if known is None:
                    unread.append(image_id)
                else:
                    self._facts[image_id] = known
        gate = asyncio.Semaphore(_READERS_MAX)

        async def read(image_id: str) -> None:
            async with gate:
                try:
                    self._learn(await self._builder.read_image(image_id))
                except BuilderError:
                    return  # removed since it was listed: as if it had not been there

        await together(*map(read, unread))


async def observe(
    discovery: Discovery,
    builder: Builder,
    folders: Folders,
    *,
    jobs: int = 1,
    only: Iterable[str] = (),
    kinds: frozenset[DependencyKind] = BUILD_KINDS,
) -> LocalChain:
    """Read the present state of a local chain.

    Args:
        discovery: What was found in its folder.
        builder: The program whose local store is looked at.
        folders: The engine's own folders.
        jobs: Builds at once, for the policy.
        only: Ids of projects, or references that they publish: these and what they are built from; none: all.
        kinds: Kinds of dependencies that make a project stale.

    Raises:
        BuilderError: the local store cannot be read.
        UnknownSourceError: `only` names nothing of the chain.
    """
    graph = Graph(discovery.sources, discovery.dependencies, kinds)
    if only:
        graph = graph.only(_resolve(graph, only))
    expected = read_hint(folders.seconds_file, dict[str, float], {})
    chain = Chain(graph, local_policy(jobs), expected)
    local = LocalChain(discovery, chain, builder, folders)
    await local.read_store()
    local.read_projects()
    local.save_cache()
    return local


def recorded_inputs(project: str, facts: ImageFacts) -> Mapping[str, str] | None:
    """Take from an image what it was built from, as the chain names inputs; None where it has no record."""
    records = facts.inputs
    if records is None or facts.recipe is None:
        return None
    inputs = {reference: record.content for reference, record in records.items() if "@" not in reference}
    return {**inputs, files_input(project): facts.recipe}


def _resolve(graph: Graph, names: Iterable[str]) -> list[str]:
    """Turn ids and references into ids; what is neither is left for the graph to refuse."""
    publishers = {image: source.id for source in graph.sources for image in source.images}
    resolved = []
    for name in names:
        reference = name
        with contextlib.suppress(ReferenceError):
            reference = parse_reference(name).identity
        resolved.append(name if name in graph.number else publishers.get(reference, name))
    return resolved


def is_local(reference: str) -> bool:
    """Whether no registry has a reference."""
    return parse_reference(reference).domain == "localhost"


def _is_whole(source: Source, name: str, listing: Listing) -> bool:
    if source.kind != "project":
        return True
    first, own = listing.find(source.images[0]), listing.find(name)
    return first is not None and own is not None and first.id == own.id
