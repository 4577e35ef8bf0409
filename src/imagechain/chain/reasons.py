"""Why a project is stale, as values and in words for people."""

from imagechain.chain.chain import Chain
from imagechain.chain.values import Reason, files_input

#: Characters of a version that people are shown.
_SHOWN_CHARACTERS = 12


def reasons(chain: Chain, number: int) -> tuple[Reason, ...]:
    """Give every reason why a project is stale: causes of its own first, then its inputs in their order."""
    state = chain.states[number]
    if state.inactive:
        return ()
    found = []
    if state.is_asked:
        found.append(Reason(kind="asked", text=f"{state.asked_by or 'a person'} asked for it"))
    if state.never_built:
        found.append(Reason(kind="never-built", text="it was never built"))
    elif state.has_missing_image:
        found.extend(_missing(chain, number))
    if state.record is not None and not state.record.known:
        found.append(Reason(kind="no-record", text="nothing tells what its image was built from"))
    found.extend(_differing(chain, number))
    found.extend(_proven(chain, number))
    return tuple(found)


def shown(version: str | None) -> str:
    """Shorten a version for people: `sha256:1234567890ab`."""
    if version is None:
        return "nothing"
    algorithm, colon, digest = version.rpartition(":")
    return f"{algorithm}{colon}{digest[:_SHOWN_CHARACTERS]}"


def _missing(chain: Chain, number: int) -> list[Reason]:
    names = [chain.graph.input_names[output] for output in chain.lost_outputs(number)]
    return [Reason(kind="missing", input=name, text=f"its image {name} does not exist") for name in names]


def _differing(chain: Chain, number: int) -> list[Reason]:
    found = []
    own_files = files_input(chain.graph.ids[number])
    for input, before in chain.differing(number):
        name, after = chain.graph.input_names[input], chain.versions[input]
        if name == own_files:
            found.append(
                Reason(kind="files", input=name, before=before, after=after, text="its own files changed")
            )
        elif before is None:
            text = f"{name} is not among what it was built from"
            found.append(Reason(kind="added", input=name, after=after, text=text))
        else:
            text = f"{name} moved ({shown(before)} -> {shown(after)})"
            found.append(Reason(kind="moved", input=name, before=before, after=after, text=text))
    return found


def _proven(chain: Chain, number: int) -> list[Reason]:
    record = chain.states[number].record
    proven = sorted(record.proven_stale) if record is not None else []
    moved = {input for input, _ in chain.differing(number)}
    return [
        Reason(
            kind="proven",
            input=chain.graph.input_names[input],
            after=chain.versions[input],
            text=f"at first sight, its layers are older than {chain.graph.input_names[input]}",
        )
        for input in proven
        if input not in moved
    ]
