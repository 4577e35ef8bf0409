"""The table `[vet]`: what is asked of images of others."""

from datetime import date
from typing import Literal

import msgspec

from imagechain.config.values import Duration

#: Names of the rules, as exceptions name them.
RULES = ("verdict", "age_max", "rebuild_lag_max", "supported", "bases", "security_updates_max", "signed")
#: The policy of images that no `[[vet.match]]` names.
POLICY_DEFAULT = "default"


class VettingPolicySettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A table `[vet.policies.NAME]`: the rules of one policy.

    The defaults follow from how often official images are made anew: Debian's every 21 days, at most 27, so
    that 45 days are late.
    """

    #: What a violation means: `enforce` fails, `warn` shows it, `observe` counts it only.
    mode: Literal["enforce", "warn", "observe"] = "enforce"
    age_max: Duration = Duration(45 * 86_400)
    #: After its base has moved.
    rebuild_lag_max: Duration = Duration(7 * 86_400)
    #: A tag must have been watched so long before it counts as continuously built.
    observed_min: Duration = Duration(14 * 86_400)
    #: Whether the distribution inside must still be supported.
    supported: bool = True
    #: Globs of what an image may be built from; empty: anything.
    bases: tuple[str, ...] = ()
    #: Packages with a security update that is not in the image; -1: layers are not read.
    security_updates_max: int = -1
    #: Whether a signature or an attestation must be there; what it says is not checked.
    signed: bool = False


class VettingMatchSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A table `[[vet.match]]`: the policy of some images; the first that matches counts."""

    #: Glob of normalised names, with or without the tag; `*` stays between slashes, `**` does not.
    image: str
    policy: str


class VettingExceptionSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A table `[[vet.exceptions]]`: a rule that some images may break until a day."""

    image: str
    rule: str
    until: date
    reason: str

    def __post_init__(self) -> None:
        """Refuse a rule that is none: the exception would excuse nothing, and nobody would know."""
        if self.rule not in RULES:
            raise ValueError(f"rule {self.rule!r} is none; known are {', '.join(RULES)}")


class VettingSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The table `[vet]`."""

    policies: dict[str, VettingPolicySettings] = {}
    match: tuple[VettingMatchSettings, ...] = ()
    exceptions: tuple[VettingExceptionSettings, ...] = ()
    #: Beginnings of addresses of package archives -> what is asked instead.
    archives: dict[str, str] = {}
    #: More ends of life of distributions, in the form of the table that comes with imagechain.
    releases_file: str = ""

    def __post_init__(self) -> None:
        """Refuse a match that names no policy."""
        for match in self.match:
            if match.policy != POLICY_DEFAULT and match.policy not in self.policies:
                known = ", ".join(sorted({POLICY_DEFAULT, *self.policies}))
                raise ValueError(f"match.policy {match.policy!r} is not defined; known are {known}")
