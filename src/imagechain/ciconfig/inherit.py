"""What a job gets from elsewhere: `extends` and `!reference`, resolved as GitLab does.

Rules: GitLab's documentation of `extends` and of `!reference` tags, and `Gitlab::Ci::Config::Extendable` for
the limits. Mappings are merged deeply, anything else is replaced.
"""

from collections.abc import Mapping

from imagechain.ciconfig.document import Node, TagReference, Value

#: Longest chain of `extends`, the job itself included; GitLab's own limit.
EXTENDS_LEVELS_MAX = 11
#: Deepest `!reference` within what a `!reference` stands for; GitLab's own limit.
REFERENCE_DEPTH_MAX = 10
#: Values that may be made by merging and referring in one configuration, so that a small file is read soon.
STEPS_MAX = 1_000_000


class Steps:
    """Counts the work that one configuration asks for."""

    def __init__(self) -> None:
        self._left = STEPS_MAX

    def spend(self, steps: int, at: Node) -> None:
        """Count work.

        Raises:
            CiConfigError: it was too much.
        """
        self._left -= steps
        if self._left < 0:
            raise at.error(f"the configuration expands to more than {STEPS_MAX} values; make it smaller")


def merge(base: Node, over: Node, steps: Steps) -> Node:
    """Merge two values deeply; where both are no mappings, `over` wins."""
    if not (isinstance(base.value, Mapping) and isinstance(over.value, Mapping)):
        return over
    steps.spend(len(base.value) + len(over.value), over)
    merged = dict(base.value)
    for key, value in over.value.items():
        merged[key] = merge(merged[key], value, steps) if key in merged else value
    return Node(merged, over.file, over.line)


class Inheritance:
    """The jobs of one merged configuration, with what they extend and refer to.

    With `open_ended`, parts of the configuration were not read (files of other projects): a name that is
    not found may stand there, and counts as empty.
    """

    def __init__(self, configuration: Mapping[str, Node], steps: Steps, *, open_ended: bool) -> None:
        self._configuration = configuration
        self._steps = steps
        self._open_ended = open_ended
        #: Entries with what they extend, and how many levels that took.
        self._extended: dict[str, tuple[Node, int]] = {}

    def job(self, name: str) -> Node:
        """Read a top-level entry with everything it extends; `!reference` tags are left for `resolve`."""
        return self._extend(name, chain=())[0]

    def _extend(self, name: str, chain: tuple[str, ...]) -> tuple[Node, int]:
        if name in self._extended:
            return self._extended[name]
        node = self._configuration[name]
        if not isinstance(node.value, Mapping) or "extends" not in node.value:
            return node, 1
        chain = (*chain, name)
        levels = 1
        extends = node.value["extends"]
        result = Node({}, node.file, node.line)
        for base in self._base_names(extends):
            if base in chain:
                raise extends.error(f"`extends` goes round in a circle: {' -> '.join((*chain, base))}")
            if base not in self._configuration:
                if self._open_ended:
                    continue
                raise extends.error(f"`extends` names {base!r}, which is nowhere in the configuration")
            # The chain bounds the recursion; the levels count also what was extended before.
            inherited, base_levels = (
                self._extend(base, chain) if len(chain) < EXTENDS_LEVELS_MAX else (node, len(chain))
            )
            levels = max(levels, base_levels + 1)
            if levels > EXTENDS_LEVELS_MAX:
                raise extends.error(f"`extends` is nested deeper than GitLab's {EXTENDS_LEVELS_MAX} levels")
            result = merge(result, inherited, self._steps)
        own = {key: value for key, value in node.value.items() if key != "extends"}
        self._steps.spend(len(own), node)
        result = merge(result, Node(own, node.file, node.line), self._steps)
        self._extended[name] = result, levels
        return result, levels

    def _base_names(self, extends: Node) -> list[str]:
        items = extends.value if isinstance(extends.value, list) else [extends]
        names = [item.value for item in items if isinstance(item.value, str)]
        if len(names) != len(items):
            raise extends.error("`extends` must be the name of a job, or a list of names")
        return names

    def resolve(self, node: Node) -> Node:
        """Put what they stand for in the place of all `!reference` tags of a value."""
        return self._resolve(node, depth=0)

    def _resolve(self, node: Node, depth: int) -> Node:
        self._steps.spend(1, node)
        value: Value
        if isinstance(node.value, TagReference):
            if depth == REFERENCE_DEPTH_MAX:
                raise node.error(
                    f"!reference tags are nested deeper than GitLab's {REFERENCE_DEPTH_MAX} levels"
                )
            target = self._target(node, node.value.path)
            value = self._resolve(target, depth + 1).value if target is not None else None
        elif isinstance(node.value, list):
            value = [self._resolve(item, depth) for item in node.value]
        elif isinstance(node.value, Mapping):
            value = {key: self._resolve(item, depth) for key, item in node.value.items()}
        else:
            return node
        return Node(value, node.file, node.line)

    def _target(self, node: Node, path: tuple[str, ...]) -> Node | None:
        found: Node | None = self.job(path[0]) if path[0] in self._configuration else None
        for key in path[1:]:
            if found is None:
                break
            found = found.value.get(key) if isinstance(found.value, Mapping) else None
        if found is None and not self._open_ended:
            raise node.error(f"!reference [{', '.join(path)}] leads to nothing in the configuration")
        return found
