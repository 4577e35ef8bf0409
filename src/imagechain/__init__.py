"""Keeps chains of container images built on the newest version of what they are built from."""
