"""CI configurations of simulated projects: includes, inputs, the merged YAML of the lint API, and jobs.

Reading and merging is done by `imagechain.ciconfig`; here is what needs a whole instance (files and
components of other projects), and what becomes of a configuration in a pipeline.
"""

import re
from collections.abc import Mapping
from typing import Any

import msgspec
import yaml

from imagechain.ciconfig import CiConfigError
from imagechain.ciconfig.document import Node, TagReference, load_configuration
from imagechain.ciconfig.inherit import Inheritance, Steps, merge
from imagechain.testing.rules import decide_rules, job_is_wanted
from imagechain.testing.state import State
from imagechain.testing.values import Commit, JobPlan, Project, SimulationError, Variable

DEFAULT_PATH = ".gitlab-ci.yml"
_STAGES = [".pre", "build", "test", "deploy", ".post"]
_KEYWORDS = frozenset({
    "after_script", "before_script", "cache", "default", "image", "include", "pages", "services", "spec",
    "stages", "variables", "workflow",
})  # fmt: skip
_VARIABLE = re.compile(r"\$(?:\{(\w+)\}|(\w+))")
_INPUT = re.compile(r"\$\[\[\s*inputs\.([\w-]+)\s*\]\]")
_HEADER_END = re.compile(r"^---\s*$", re.MULTILINE)


class Included(msgspec.Struct, frozen=True, kw_only=True):
    """A file that a configuration includes."""

    #: `local`, `file`, `template` or `component`.
    type: str
    location: str
    project: Project | None
    sha: str
    path: str
    ref: str | None
    context_project: str
    context_sha: str


class Configuration(msgspec.Struct, frozen=True, kw_only=True):
    """A configuration with everything that it includes."""

    content: Mapping[str, Any]
    includes: tuple[Included, ...] = ()
    errors: tuple[str, ...] = ()

    @property
    def merged_yaml(self) -> str:
        """The whole configuration as one text."""
        return yaml.safe_dump(dict(self.content), sort_keys=False, explicit_start=True)


class _Place(msgspec.Struct, frozen=True):
    """Where a file is read from."""

    project: Project
    commit: Commit


class _Source(msgspec.Struct, frozen=True):
    """A file that an entry of `include` names."""

    kind: str
    location: str
    place: _Place
    path: str
    ref: str | None = None


class _Reader:
    """Reads one configuration with all that it includes."""

    def __init__(self, state: State, variables: Mapping[str, str]) -> None:
        self._state = state
        self._variables = variables
        self.steps = Steps()
        self.includes: list[Included] = []

    def read(self, text: str, file: str, place: _Place, inputs: Mapping[str, Any]) -> Node:
        """Read a text and merge it over what it includes."""
        own = load_configuration(_fill_inputs(text, file, inputs).encode(), file)
        entries = dict(own.mapping("the configuration"))
        include = entries.pop("include", None)
        result = Node({}, file, 1)
        items = [] if include is None else _plain(include)
        for item in items if isinstance(items, list) else [items]:
            for node in self._included({"local": item} if isinstance(item, str) else item, place):
                result = merge(result, node, self.steps)
        return merge(result, Node(entries, file, own.line), self.steps)

    def _included(self, item: Mapping[str, Any], context: _Place) -> list[Node]:
        if "rules" in item and decide_rules(item["rules"], self._variables) is None:
            return []
        if "template" in item:
            return [self._template(item["template"], context)]
        return [
            self._read_included(source, context, item.get("inputs") or {})
            for source in self._sources(item, context)
        ]

    def _sources(self, item: Mapping[str, Any], context: _Place) -> list[_Source]:
        """Find the files that an entry of `include` names."""
        if "local" in item:
            paths = self._local_paths(self._expand(item["local"]), context.commit)
            return [_Source("local", path, context, path) for path in paths]
        if "project" in item:
            files = item.get("file", [])
            place = self._place(self._expand(item["project"]), item.get("ref"))
            ref = item.get("ref") or "HEAD"
            return [
                _Source("file", path, place, path.lstrip("/"), ref)
                for path in (files if isinstance(files, list) else [files])
            ]
        if "component" in item:
            return [self._component(self._expand(item["component"]))]
        raise SimulationError("`remote` includes lead out of the simulation; use `local` or `project`")

    def _read_included(self, source: _Source, context: _Place, inputs: Mapping[str, Any]) -> Node:
        place = source.place
        file = place.commit.files.get(source.path)
        if file is None:
            where = "Local file" if source.kind == "local" else f"Project `{place.project.full_path}` file"
            raise SimulationError(f"{where} `{source.path}` does not exist!")
        self._note(
            Included(
                type=source.kind,
                location=source.location,
                project=place.project,
                sha=place.commit.sha,
                path=source.path,
                ref=source.ref,
                context_project=context.project.full_path,
                context_sha=context.commit.sha,
            )
        )
        return self.read(file.content.decode(errors="replace"), source.path, place, inputs)

    def _note(self, included: Included) -> None:
        most = self._state.settings.includes_max
        if len(self.includes) == most:
            raise SimulationError(f"Maximum of {most} nested includes are allowed!")
        self.includes.append(included)

    def _template(self, name: str, context: _Place) -> Node:
        text = self._state.templates.get(name)
        if text is None:
            raise SimulationError(f"Template file `{name}` is empty!")
        self._note(
            Included(
                type="template",
                location=name,
                project=None,
                sha="",
                path=name,
                ref=None,
                context_project=context.project.full_path,
                context_sha=context.commit.sha,
            )
        )
        return self.read(text.decode(), name, context, {})

    def _local_paths(self, path: str, commit: Commit) -> list[str]:
        path = path.lstrip("/")
        if "*" not in path:
            return [path]
        parts = re.split(r"(\*\*|\*)", path)
        pattern = "".join({"**": ".*", "*": "[^/]*"}.get(part) or re.escape(part) for part in parts)
        return sorted(name for name in commit.files if re.fullmatch(pattern, name))

    def _place(self, path: str, ref: str | None) -> _Place:
        project = self._state.find_project(path.strip("/"))
        if project is None:
            raise SimulationError(
                f"Project `{path}` not found or access denied! Make sure any includes in the pipeline "
                "configuration are correctly defined."
            )
        commit = project.resolve(self._expand(str(ref)) if ref else "HEAD")
        if commit is None:
            raise SimulationError(f"Project `{path}` reference `{ref or 'HEAD'}` does not exist!")
        return _Place(project, commit)

    def _component(self, address: str) -> _Source:
        location, _, version = address.partition("@")
        _, _, path = location.partition("/")
        project, _, name = path.rpartition("/")
        source = self._place(project, _newest(self._state.find_project(project), version))
        for file in (f"templates/{name}.yml", f"templates/{name}/template.yml"):
            if file in source.commit.files:
                return _Source("component", address, source, file, version)
        raise SimulationError(f"Component '{address}' - content not found")

    def _expand(self, text: str) -> str:
        return _VARIABLE.sub(lambda match: self._variables.get(match[1] or match[2], ""), text)


def _newest(project: Project | None, version: str) -> str:
    """Find the tag that `~latest` or a partial version stands for."""
    if project is None or version in project.branches or not re.fullmatch(r"~latest|\d+(\.\d+)?", version):
        return version
    tags = [tag for tag in project.tags if re.fullmatch(r"\d+\.\d+\.\d+", tag)]
    if version != "~latest":
        tags = [tag for tag in tags if tag.startswith(f"{version}.")]
    return max(tags, key=lambda tag: [int(part) for part in tag.split(".")], default=version)


def _fill_inputs(text: str, file: str, inputs: Mapping[str, Any]) -> str:
    """Put the inputs into a text with a header `spec:inputs`; refuse those that it does not know."""
    header: Any = None
    parts = _HEADER_END.split(text, maxsplit=2)
    if not parts[0].strip():
        parts = parts[1:]
    if len(parts) > 1:
        header = yaml.safe_load(parts[0])
    known = header["spec"].get("inputs") or {} if isinstance(header, Mapping) and "spec" in header else {}
    unknown = sorted(inputs.keys() - known.keys())
    if unknown:
        raise SimulationError(f"`{file}`: unknown input arguments: {', '.join(unknown)}")
    values: dict[str, Any] = {}
    for name, spec in known.items():
        if name not in inputs and "default" not in (spec or {}):
            raise SimulationError(f"`{file}`: `{name}` input: required value has not been provided")
        values[name] = inputs[name] if name in inputs else spec["default"]
        options = (spec or {}).get("options")
        if options is not None and values[name] not in options:
            raise SimulationError(f"`{file}`: `{name}` input: `{values[name]}` cannot be used: not an option")

    def fill(match: re.Match[str]) -> str:
        if match[1] not in values:
            raise SimulationError(f"`{file}`: unknown interpolation key: `{match[1]}`")
        value = values[match[1]]
        return str(value).lower() if isinstance(value, bool) else str(value)

    return text if not known else _INPUT.sub(fill, text)


def _plain(node: Node) -> Any:
    """Turn nodes into plain values."""
    value = node.value
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return list(value.path) if isinstance(value, TagReference) else value


def predefined_variables(
    state: State, project: Project, ref: str, sha: str, source: str, *, tag: bool = False
) -> dict[str, str]:
    """List the variables that GitLab gives to each pipeline."""
    host = state.settings.url.partition("://")[2]
    variables = {
        "CI": "true",
        "GITLAB_CI": "true",
        "CI_SERVER_URL": state.settings.url,
        "CI_SERVER_HOST": host.partition(":")[0],
        "CI_SERVER_FQDN": host,
        "CI_SERVER_VERSION": state.settings.version,
        "CI_API_V4_URL": f"{state.settings.url}/api/v4",
        "CI_PROJECT_ID": str(project.id),
        "CI_PROJECT_NAME": project.path,
        "CI_PROJECT_PATH": project.full_path,
        "CI_PROJECT_NAMESPACE": project.full_path.rpartition("/")[0],
        "CI_PROJECT_ROOT_NAMESPACE": project.full_path.partition("/")[0],
        "CI_PROJECT_URL": f"{state.settings.url}/{project.full_path}",
        "CI_REGISTRY": state.settings.registry_host,
        "CI_REGISTRY_IMAGE": f"{state.settings.registry_host}/{project.full_path.lower()}",
        "CI_DEFAULT_BRANCH": project.default_branch or "",
        "CI_COMMIT_SHA": sha,
        "CI_COMMIT_SHORT_SHA": sha[:8],
        "CI_COMMIT_REF_NAME": ref,
        "CI_PIPELINE_SOURCE": source,
    }
    if tag:
        variables["CI_COMMIT_TAG"] = ref
    elif source != "merge_request_event":
        variables["CI_COMMIT_BRANCH"] = ref
    return variables


def read_configuration(
    state: State,
    project: Project,
    commit: Commit,
    text: str,
    *,
    file: str = DEFAULT_PATH,
    variables: Mapping[str, str],
    inputs: Mapping[str, Any] | None = None,
) -> Configuration:
    """Read a configuration with all that it includes; what is wrong with it is listed, not raised."""
    reader = _Reader(state, variables)
    content: dict[str, Any] = {}
    errors: list[str] = []
    try:
        node = reader.read(text, file, _Place(project, commit), inputs or {})
        entries = node.mapping("the configuration")
        inheritance = Inheritance(entries, reader.steps, open_ended=False)
        for name, entry in entries.items():
            resolved = inheritance.job(name) if name not in _KEYWORDS else entry
            content[name] = _plain(inheritance.resolve(resolved))
    except (SimulationError, CiConfigError) as error:
        errors.append(str(error))
    if not errors:
        errors += _check(content)
    return Configuration(content=content, includes=tuple(reader.includes), errors=tuple(errors))


def visible_jobs(content: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """List the jobs of a configuration, without hidden ones."""
    return {
        name: job
        for name, job in content.items()
        if name not in _KEYWORDS and not name.startswith(".") and isinstance(job, Mapping)
    }


def stages(content: Mapping[str, Any]) -> list[str]:
    """List the stages of a configuration in order."""
    return [".pre", *content["stages"], ".post"] if content.get("stages") else list(_STAGES)


def _check(content: Mapping[str, Any]) -> list[str]:
    jobs = visible_jobs(content)
    if not jobs:
        return ["jobs config should contain at least one visible job"]
    errors = []
    known = stages(content)
    for name, job in jobs.items():
        if not {"script", "trigger", "run"} & job.keys():
            errors.append(f"jobs:{name} config should implement the script:, run:, or trigger: keyword")
        if (stage := job.get("stage", "test")) not in known:
            errors.append(f"{name} job: chosen stage {stage} does not exist; available stages are {known}")
    return errors


def flat_lines(value: object) -> tuple[str, ...]:
    """List the lines of a script, with the lists that `!reference` made flattened."""
    if value is None:
        return ()
    if isinstance(value, list):
        return tuple(line for item in value for line in flat_lines(item))
    return (str(value),)


def _variable_values(variables: object) -> dict[str, str]:
    """Read a `variables:` section, whose values may be mappings with `value`."""
    found: dict[str, str] = {}
    for key, value in variables.items() if isinstance(variables, Mapping) else ():
        plain = value.get("value", "") if isinstance(value, Mapping) else value
        found[key] = str(plain).lower() if isinstance(plain, bool) else str(plain)
    return found


def plan_jobs(
    content: Mapping[str, Any], given: Mapping[str, str], own: tuple[Variable, ...]
) -> tuple[JobPlan, ...]:
    """Decide which jobs a pipeline has; none where `workflow:rules` refuses it."""
    globals_ = {
        **given,
        **_variable_values(content.get("variables")),
        **{item.key: item.value for item in own},
    }
    workflow = content.get("workflow")
    if isinstance(workflow, Mapping) and "rules" in workflow and not _admitted(workflow["rules"], globals_):
        return ()
    default = content.get("default") or {}
    order = stages(content)
    plans: list[JobPlan] = []
    for name, job in visible_jobs(content).items():
        rule = job_is_wanted(job, globals_)
        if rule is None:
            continue
        plans.append(_plan(name, {**_defaults(content), **_defaults(default), **job}, rule, globals_))
    return tuple(sorted(plans, key=lambda plan: order.index(plan.stage)))


def _defaults(content: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: content[key]
        for key in ("image", "services", "before_script", "after_script", "tags")
        if key in content
    }


def _admitted(rules: Any, variables: Mapping[str, str]) -> bool:
    return decide_rules(rules or [], variables) is not None


def _name(value: Any) -> Any:
    """Read the name of what may be a text or a mapping with `name`."""
    return value.get("name") if isinstance(value, Mapping) else value


def _first_local(include: Any) -> str:
    first = include[0] if isinstance(include, list) and include else include
    return str(first.get("local", "") if isinstance(first, Mapping) else first)


def _plan(
    name: str, job: Mapping[str, Any], rule: Mapping[str, Any], variables: Mapping[str, str]
) -> JobPlan:
    trigger = job.get("trigger")
    when = str(rule.get("when", job.get("when", "on_success")))
    # A manual job blocks its pipeline only if a rule made it manual, or if it says so.
    lenient = when == "manual" and "rules" not in job
    artifacts = job.get("artifacts")
    if isinstance(trigger, Mapping):
        trigger = trigger.get("project") or f"./{_first_local(trigger.get('include')).lstrip('/')}"
    return JobPlan(
        name=name,
        stage=str(job.get("stage", "test")),
        script=flat_lines(job.get("before_script")) + flat_lines(job.get("script")),
        after_script=flat_lines(job.get("after_script")),
        image=_name(job.get("image")),
        services=tuple(str(_name(service)) for service in job.get("services") or ()),
        when=when,
        allow_failure=bool(rule.get("allow_failure", job.get("allow_failure", lenient))),
        tags=flat_lines(job.get("tags")),
        environment=_name(job.get("environment")),
        artifacts=artifacts if isinstance(artifacts, Mapping) else None,
        dependencies=None if job.get("dependencies") is None else flat_lines(job["dependencies"]),
        variables={
            **variables,
            **_variable_values(job.get("variables")),
            **_variable_values(rule.get("variables")),
        },
        trigger=trigger,
    )
