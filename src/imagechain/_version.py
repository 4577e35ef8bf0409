"""The version of imagechain, in one place for the package and for `imagechain --version`."""

__version__ = "0.1.0.dev0"
