"""The tables `[image]` and `[[image.registry]]`: where CI puts the images of a repository."""

import re

import msgspec

from imagechain.refs import ReferenceError, parse_reference

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class ImageRegistrySettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A table `[[image.registry]]`: one more place that every image is put to, besides the project's own."""

    #: Images are put below it: `quay.io/group` gets `quay.io/group/<name>`.
    address: str
    #: Names of the variables with the login. Where they are not given, an auth file has to have one.
    username_variable: str = ""
    password_variable: str = ""
    #: Without a login it is left out, and a line says so; otherwise it is an error.
    optional: bool = False

    def __post_init__(self) -> None:
        """Refuse an address below which nothing can be, and a secret where the name of one belongs."""
        try:
            parse_reference(f"{self.address}/name")
        except ReferenceError as error:
            raise ValueError(f"address {self.address!r} begins no image reference: {error}") from error
        if bool(self.username_variable) != bool(self.password_variable):
            raise ValueError("username_variable and password_variable are given together")
        for name in (self.username_variable, self.password_variable):
            # Without the text: it may be the secret itself.
            if name and not _VARIABLE.fullmatch(name):
                raise ValueError("username_variable and password_variable name variables, and hold no logins")


class ImageSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The table `[image]`."""

    registry: tuple[ImageRegistrySettings, ...] = ()
    #: Globs of branches and git tags that may deploy to production; none: the default branch and git tags.
    production_refs: tuple[str, ...] = ()
