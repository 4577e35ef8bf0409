"""Build, read, name, push and remove images, one at a time; knows nothing of chains."""

from imagechain.images.builder import (
    Base,
    Builder,
    BuilderError,
    BuildFailedError,
    BuildRequest,
    ImageFacts,
    InputRecord,
    Listing,
    StoredImage,
    spellings,
)
from imagechain.images.choose import choose_builder
from imagechain.images.facts_cache import FactsCache
from imagechain.images.process import kill_orphans
from imagechain.images.provenance import GitFacts, own_labels, read_git
from imagechain.images.recipe import Recipe, RecipeError, read_recipe

__all__ = [
    "Base",
    "BuildFailedError",
    "BuildRequest",
    "Builder",
    "BuilderError",
    "FactsCache",
    "GitFacts",
    "ImageFacts",
    "InputRecord",
    "Listing",
    "Recipe",
    "RecipeError",
    "StoredImage",
    "choose_builder",
    "kill_orphans",
    "own_labels",
    "read_git",
    "read_recipe",
    "spellings",
]
