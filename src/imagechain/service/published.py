"""What images in registries say: which version each is, and what it was built from. Pure.

Here are the decided cases of the design (section 3) that are about images: the label wins over layers, layers
win over times. A version, and what a label says of one, may be of several platforms (`platforms`).
"""

from collections.abc import Mapping

import msgspec

from imagechain.chain import Chain, DependencyKind, Graph, Observation, VersionRead
from imagechain.service.platforms import is_part_of
from imagechain.service.ports import ImageAbsent, ImageRead, ImageUnchecked

#: Kinds of dependencies whose image the label of a build names.
_LABELLED: frozenset[DependencyKind] = frozenset({"from", "copy-from", "mount-from", "onbuild"})

Reading = ImageRead | ImageAbsent | ImageUnchecked


class Published(msgspec.Struct, frozen=True):
    """The images of a source, as they were found in the registries."""

    #: When reading them began.
    at: float
    readings: Mapping[str, Reading]

    @property
    def unchecked(self) -> tuple[str, ...]:
        """Say which could not be read, and why: the messages name them."""
        return tuple(
            reading.message for reading in self.readings.values() if isinstance(reading, ImageUnchecked)
        )

    @property
    def retry_after_seconds(self) -> float:
        """Tell how long the registries want to be left alone."""
        waits = [
            reading.retry_after_seconds or 0.0
            for reading in self.readings.values()
            if isinstance(reading, ImageUnchecked)
        ]
        return max(waits, default=0.0)


def published_names(graph: Graph) -> dict[str, tuple[str, ...]]:
    """Name the images of each source that anybody could have built from; none of a project without images."""
    names: dict[str, dict[str, None]] = {source.id: dict.fromkeys(source.images) for source in graph.sources}
    for key, publisher in enumerate(graph.publisher):
        if publisher >= 0 and graph.input_names[key] != graph.ids[publisher]:
            names[graph.ids[publisher]][graph.input_names[key]] = None
    return {source: tuple(found) for source, found in names.items()}


def version_of(reading: ImageRead | ImageAbsent) -> str | None:
    """Give the version that an image has, for the chain."""
    return reading.content if isinstance(reading, ImageRead) else None


def versions_read(readings: Mapping[str, Reading], at: float) -> list[Observation]:
    """Report what images are now; those that could not be read are left out."""
    return [
        VersionRead(input=name, version=version_of(reading), at=at)
        for name, reading in readings.items()
        if not isinstance(reading, ImageUnchecked)
    ]


def labelled_inputs(chain: Chain, own: Published, bases: Published) -> dict[str, str] | None:
    """Take what images say they were built from; None where none of them says so.

    Other builders pass the labels of a base on: what its base says too, an image does not say of itself.
    Where two images of a project disagree, the one that is behind counts: the project is to be built.
    """
    of_bases = [base.inputs for base in bases.readings.values() if isinstance(base, ImageRead)]
    labels = [
        reading.inputs
        for reading in own.readings.values()
        if isinstance(reading, ImageRead)
        and reading.inputs is not None
        and not any(_is_inherited(reading.inputs, inputs) for inputs in of_bases)
    ]
    if not labels:
        return None
    graph, facts = chain.graph, chain.facts
    inputs: dict[str, str] = {}
    for label in labels:
        for name, recorded in label.items():
            key = graph.input_number.get(name)
            present = facts.versions[key] if key is not None else None
            version = present if present is not None and is_part_of(recorded, present) else recorded
            if name not in inputs or inputs[name] == present:
                inputs[name] = version
    return inputs


def _is_inherited(inputs: Mapping[str, str], of_base: Mapping[str, str] | None) -> bool:
    """Tell whether a label is that of a base, or of some of its platforms."""
    return (
        of_base is not None
        and inputs.keys() == of_base.keys()
        and all(is_part_of(version, of_base[name]) for name, version in inputs.items())
    )


def unlabelled_names(chain: Chain, source: str) -> list[str]:
    """Name the inputs that labels need not speak of: declared ones, images and files of CI jobs."""
    graph = chain.graph
    number = graph.number_of(source)
    labelled = {
        graph.key_of(dependency)
        for dependency in graph.dependencies[number]
        if dependency.kind in _LABELLED and dependency.image is not None
    }
    return [graph.input_names[key] for key in graph.inputs[number] if key not in labelled]


def complete_label(
    chain: Chain, source: str, inputs: dict[str, str], otherwise: Mapping[str, str | None]
) -> dict[str, str]:
    """Add to what a label says the inputs that labels need not speak of."""
    added = {name: otherwise.get(name) for name in unlabelled_names(chain, source)}
    return {name: version for name, version in added.items() if version is not None} | inputs


def known_inputs(chain: Chain, source: str, build: str | None, at: float) -> dict[str, str | None]:
    """Give the versions that a build is thought to be made from, or were known at a time."""
    graph, facts = chain.graph, chain.facts
    number = graph.number_of(source)
    run = facts.states[number].runs.get(build) if build is not None else None
    versions = run.versions if run is not None else facts.known_at(number, at)
    return {graph.input_names[key]: v for key, v in zip(graph.inputs[number], versions, strict=True)}


def base_names(chain: Chain, source: str) -> list[str]:
    """Name the images that the stages of a project begin with."""
    graph = chain.graph
    keys = [
        graph.key_of(dependency)
        for dependency in graph.dependencies[graph.number_of(source)]
        if dependency.kind == "from" and graph.counts(dependency)
    ]
    return list(dict.fromkeys(graph.input_names[key] for key in keys if key is not None))


def proven_inputs(own: Published, bases: Published) -> tuple[dict[str, str], tuple[str, ...]]:
    """Compare layers: which present bases the images of a project hold, and which they certainly do not.

    With several stages nobody can tell which base the last one began with, so that only what is held counts.
    """
    images = [reading for reading in own.readings.values() if isinstance(reading, ImageRead)]
    present = {name: base for name, base in bases.readings.items() if isinstance(base, ImageRead)}
    layers = [image.diff_ids for image in images if image.diff_ids]
    if not layers:
        return {}, ()
    held = {
        name: base.content
        for name, base in present.items()
        if base.diff_ids and all(_begins_with(own_ids, base.diff_ids) for own_ids in layers)
    }
    is_single = len(bases.readings) == 1
    older = tuple(
        name
        for name, base in present.items()
        if name not in held and any(base.diff_ids.keys() & own_ids.keys() for own_ids in layers)
    )
    return held, older if is_single else ()


def _begins_with(own: Mapping[str, tuple[str, ...]], base: Mapping[str, tuple[str, ...]]) -> bool:
    """Tell whether an image begins with the layers of a base, on each of its platforms."""
    return all(
        platform in base and ids[: len(base[platform])] == base[platform] for platform, ids in own.items()
    )
