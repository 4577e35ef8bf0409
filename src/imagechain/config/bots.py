"""The table `[bots]`: what the service does when people comment, and when something is deployed."""

import re

import msgspec

#: What texts of a rule may name in braces.
DEPLOYMENT_FACTS = frozenset({"project", "environment", "sha", "ref", "deployment", "image", "digest"})
_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")


class DeploymentSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A table `[[bots.deployments]]`: which pipeline follows which deployments."""

    #: Glob of environments: `production`, `production/*`.
    environment: str
    #: Path of the project whose pipeline is started.
    start: str
    #: Glob of the projects that were deployed.
    projects: str = "**"
    #: Branch or tag that it runs on; empty: the default branch.
    ref: str = ""
    #: Inputs of the pipeline; `{image}`, `{digest}`, `{environment}`, `{project}`, ... are filled in.
    inputs: dict[str, str] = {}
    #: Variables of the pipeline; the same.
    variables: dict[str, str] = {}

    def __post_init__(self) -> None:
        """Refuse what cannot be filled in, or started."""
        if not self.start:
            raise ValueError("start names no project")
        for name, text in (self.inputs | self.variables).items():
            for placeholder in _PLACEHOLDER.findall(text):
                if placeholder not in DEPLOYMENT_FACTS:
                    known = ", ".join(f"{{{fact}}}" for fact in sorted(DEPLOYMENT_FACTS))
                    raise ValueError(f"{name}: {{{placeholder}}} is not known; known are {known}")


class BotSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The table `[bots]`."""

    #: Whether `@<bot> test` in a comment on a merge request is obeyed.
    test: bool = True
    deployments: tuple[DeploymentSettings, ...] = ()
