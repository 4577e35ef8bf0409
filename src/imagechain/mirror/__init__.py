"""Keeps selected tags of other registries mirrored: looks by HEAD, copies what moved, removes when asked.

Knows registries and settings; nothing of chains, builds or hosts.
"""
