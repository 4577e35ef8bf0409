"""Containerfiles: which images a build is made from, read as BuildKit and buildah read them. Pure.

`lines` splits the text into instructions, `instructions` parses them, `expand` (with `lexer` and `patterns`)
knows variables, `arguments` the global ones, `stages` finds what names what, `body` walks through the stages
that are needed, and `reader` puts it together. `differences` tells where the two builders disagree.
"""

from imagechain.containerfile.reader import read_containerfile
from imagechain.containerfile.values import (
    Containerfile,
    ContainerfileError,
    Dialect,
    ImageDependency,
    Stage,
    Trigger,
    Warning,
)

__all__ = [
    "Containerfile",
    "ContainerfileError",
    "Dialect",
    "ImageDependency",
    "Stage",
    "Trigger",
    "Warning",
    "read_containerfile",
]
