"""Why a project is stale, as values and in words for people."""

from imagechain.chain.chain import Chain
from imagechain.chain.values import Reason, files_input
from imagechain.refs import parse_reference

#: Characters of a version's hash that people are shown.
_SHOWN_CHARACTERS = 12


def reasons(chain: Chain, number: int) -> tuple[Reason, ...]:
    """Give every reason why a project is stale: causes of its own first, then its inputs in their order."""
    state = chain.facts.states[number]
    if state.is_inactive:
        return ()
    found = []
    if state.ask is not None and state.is_asked:
        text = f"{state.ask.by or 'a person'} asked for it"
        found.append(Reason(kind="asked", text=f"{text} ({state.ask.reason})" if state.ask.reason else text))
    if state.is_never_built:
        found.append(Reason(kind="never-built", text="it was never built"))
    elif state.has_lost_image:
        found.extend(_missing(chain, number))
    if state.record is not None and not state.record.is_known:
        found.append(Reason(kind="no-record", text="nothing tells what its image was built from"))
    found.extend(_moved(chain, number))
    found.extend(_proven(chain, number))
    return tuple(found)


def _familiar(image: str) -> str:
    """Shorten the name of an image as people write it: `debian:bookworm`."""
    return parse_reference(image).familiar


def _people_call(chain: Chain, key: int) -> str:
    """Name an input: a project by its id, if one image is all it has, else by the image."""
    publisher = chain.graph.publisher[key]
    if publisher < 0:
        return "its own files"
    is_sole = chain.graph.outputs[publisher] == [key] and not chain.facts.is_external(publisher)
    return chain.graph.ids[publisher] if is_sole else _familiar(chain.graph.input_names[key])


def _shown(version: str) -> str:
    """Shorten a version for people: `sha256:1234567890ab…`; that of several platforms in each part."""
    return ", ".join(_shortened(part) for part in version.split(","))


def _shortened(part: str) -> str:
    algorithm, colon, digest = part.rpartition(":")
    return f"{algorithm}{colon}{digest[:_SHOWN_CHARACTERS]}" + "…" * (len(digest) > _SHOWN_CHARACTERS)


def _missing(chain: Chain, number: int) -> list[Reason]:
    names = [chain.graph.input_names[key] for key in chain.facts.lost_images(number)]
    return [
        Reason(kind="missing", input=name, text=f"its image {_familiar(name)} does not exist")
        for name in names
    ]


def _moved(chain: Chain, number: int) -> list[Reason]:
    found = []
    own_files = files_input(chain.graph.ids[number])
    for key, before, after in chain.facts.moved(number):
        name = chain.graph.input_names[key]
        if name == own_files:
            text = "its own files changed"
            found.append(Reason(kind="files", input=name, before=before, after=after, text=text))
        elif before is None:
            text = f"it was not built from {_people_call(chain, key)}"
            found.append(Reason(kind="added", input=name, after=after, text=text))
        else:
            text = f"{_people_call(chain, key)} moved ({_shown(before)} -> {_shown(after)})"
            found.append(Reason(kind="moved", input=name, before=before, after=after, text=text))
    return found


def _proven(chain: Chain, number: int) -> list[Reason]:
    """Tell what was proven at first sight, as long as the input has not moved besides."""
    record = chain.facts.states[number].record
    if record is None or not record.proven_stale:
        return []
    moved = {key for key, _, _ in chain.facts.moved(number)}
    return [
        Reason(
            kind="proven",
            input=chain.graph.input_names[key],
            after=chain.facts.versions[key],
            text=f"at first sight its layers were older than {_people_call(chain, key)}",
        )
        for key in sorted(record.proven_stale - moved)
    ]
