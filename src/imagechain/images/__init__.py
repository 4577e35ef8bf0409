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
    RegistryAccess,
    StoredImage,
    spellings,
)
from imagechain.images.choose import choose_builder
from imagechain.images.facts_cache import FactsCache
from imagechain.images.make import BuildOptions, Ingredients, Parent, make_image
from imagechain.images.process import kill_orphans
from imagechain.images.provenance import GitFacts, own_labels, read_git
from imagechain.images.recipe import Recipe, RecipeError, read_recipe

__all__ = [
    "Base",
    "BuildFailedError",
    "BuildOptions",
    "BuildRequest",
    "Builder",
    "BuilderError",
    "FactsCache",
    "GitFacts",
    "ImageFacts",
    "Ingredients",
    "InputRecord",
    "Listing",
    "Parent",
    "Recipe",
    "RecipeError",
    "RegistryAccess",
    "StoredImage",
    "choose_builder",
    "kill_orphans",
    "make_image",
    "own_labels",
    "read_git",
    "read_recipe",
    "spellings",
]
