"""Build one image, as a CI job or a person asks for it: nothing but it is built."""

from imagechain.engines.single.build import BuiltImage, Order, build_one
from imagechain.engines.single.work import leftovers, remove_leftovers, work_folder

__all__ = ["BuiltImage", "Order", "build_one", "leftovers", "remove_leftovers", "work_folder"]
