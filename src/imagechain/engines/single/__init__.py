"""Build one image, as a CI job or a person asks for it: nothing but it is built."""

from imagechain.engines.single.build import BuiltImage, Checkout, Order, build_one, read_checkout
from imagechain.engines.single.work import leftovers, remove_leftovers, work_folder

__all__ = [
    "BuiltImage",
    "Checkout",
    "Order",
    "build_one",
    "leftovers",
    "read_checkout",
    "remove_leftovers",
    "work_folder",
]
