"""Image references, platforms and content keys: the values that every part speaks in. Pure."""

from imagechain.refs.content import CONTENT_KEY_VERSION, ImageConfig, content_key, decode_image_config
from imagechain.refs.platform import Platform, PlatformError, parse_architecture, parse_platform
from imagechain.refs.reference import (
    DEFAULT_DOMAIN,
    DEFAULT_TAG,
    OFFICIAL_NAMESPACE,
    Reference,
    ReferenceError,
    parse_reference,
)

__all__ = [
    "CONTENT_KEY_VERSION",
    "DEFAULT_DOMAIN",
    "DEFAULT_TAG",
    "OFFICIAL_NAMESPACE",
    "ImageConfig",
    "Platform",
    "PlatformError",
    "Reference",
    "ReferenceError",
    "content_key",
    "decode_image_config",
    "parse_architecture",
    "parse_platform",
    "parse_reference",
]
