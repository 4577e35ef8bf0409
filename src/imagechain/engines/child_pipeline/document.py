"""The jobs of a child pipeline, as GitLab's YAML. Pure, and the same text for the same images.

    build (one for each architecture) -> manifest -> test -> tag -> deploy

An image is built as soon as those that it is built from are pushed, tested or not: that makes the pipeline as
long as its critical path. It is tagged when its own tests have passed and those that it is built from are
tagged: nothing passes the gate on a base that did not.

Every text is written in double quotes, because YAML would take some for numbers, dates or Ruby's symbols.
"""

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import yaml

from imagechain.engines.child_pipeline.values import ChildPipelineError, PipelineImage
from imagechain.images.tags import Pipeline, build_tag

Job = dict[str, Any]

#: GitLab's default for how many jobs one may need.
NEEDS_MAX = 50
#: GitLab's default for the size of a configuration.
DOCUMENT_BYTES_MAX = 1024 * 1024

#: A job may need jobs of its own stage and of earlier ones, so all that builds wait for is in the first.
_STAGES = ("build", "test", "tag", "deploy")
#: Environments of merge requests end by themselves, for what is forgotten.
_AUTO_STOP = "2 weeks"
#: Names are given as arguments: a variable of the pipeline above would win over one of these jobs.
_IMAGE = ("imagechain", "image")
#: The digest that is tested goes on in a file to the jobs that promote it.
_DOTENV_FILE = "imagechain.env"
_HANDS_ON_DIGEST: Job = {"artifacts": {"reports": {"dotenv": _DOTENV_FILE}}}


class JobOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What holds for all jobs of a pipeline."""

    pipeline: Pipeline
    #: Address of the project's registry.
    registry_image: str
    #: The image that jobs run in; empty: what the runner has.
    job_image: str
    #: A file of the repository with a job `.test`, which is run for each image; empty: no tests.
    test_file: str
    #: Architecture -> tags of its runners.
    runner_tags: Mapping[str, Sequence[str]]
    #: Build what the registry has already, too: what comes from elsewhere may have changed.
    rebuild: bool
    jobs_max: int


def write_document(images: Sequence[PipelineImage], options: JobOptions) -> str:
    """Write the pipeline that builds these images, which are in order.

    Raises:
        ChildPipelineError: it exceeds what GitLab takes.
    """
    names = {image.name: image for image in images}
    jobs: dict[str, Job] = {}
    for image in images:
        jobs.update(_jobs(image, names, options))
    if not images:
        jobs["nothing to build"] = {
            "stage": "build",
            "variables": {"GIT_STRATEGY": "none"},
            "script": ["echo 'No image is touched by the changes of this pipeline.'"],
        }
    if len(jobs) > options.jobs_max:
        raise ChildPipelineError(
            f"{len(images)} images need {len(jobs)} jobs, and no more than {options.jobs_max} are allowed; "
            "set jobs_max in [pipeline] of imagechain.toml to what GitLab allows you, or split the repository"
        )
    document: dict[str, Any] = {
        # The pipeline that started this one has decided that it runs.
        "workflow": {"rules": [{"when": "always"}]},
        "stages": list(_STAGES),
        **({"include": [{"local": options.test_file}]} if options.test_file else {}),
        **({"default": {"image": _entered(options.job_image)}} if options.job_image else {}),
        # Tags are named after the pipeline that people see.
        "variables": {"IMAGE_PIPELINE_ID": options.pipeline.id},
        **jobs,
    }
    text = yaml.dump(document, Dumper=_Dumper, sort_keys=False, width=1_000_000)
    if len(text.encode()) > DOCUMENT_BYTES_MAX:
        raise ChildPipelineError(
            f"the pipeline of {len(images)} images is larger than the {DOCUMENT_BYTES_MAX} bytes that GitLab "
            "takes; split the repository"
        )
    return text


def _jobs(image: PipelineImage, names: Mapping[str, PipelineImage], options: JobOptions) -> dict[str, Job]:
    parents = sorted({parent.image for parent in image.parents if parent.image in names})
    name = image.name
    pushed = [_pushing_job(names[parent]) for parent in parents]
    pins = {
        parent.reference: _reference(parent.image, options)
        for parent in image.parents
        if parent.image in names
    }
    jobs: dict[str, Job] = {}
    for arch in image.arches or ("",):
        tags = list(options.runner_tags.get(arch, ()))
        jobs[f"build {name} {arch}".strip()] = {
            "stage": "build",
            **({"tags": tags} if tags else {}),
            **({"variables": {"IMAGE_ARCH": arch}} if arch else {}),
            "interruptible": True,
            "script": [_build_command(image, pins, rebuild=options.rebuild)],
            "needs": _needs(name, pushed),
            **({} if arch else _HANDS_ON_DIGEST),
        }
    if image.arches:
        jobs[f"manifest {name}"] = {
            "stage": "build",
            "script": [_manifest_command(image)],
            "needs": _needs(name, [f"build {name} {arch}" for arch in image.arches]),
            **_HANDS_ON_DIGEST,
        }
    ready = [_pushing_job(image)]
    if options.test_file:
        jobs[f"test {name}"] = {
            "extends": ".test",
            "stage": "test",
            "variables": {"IMAGE_NAME": name, "IMAGE": _reference(name, options)},
            "needs": _needs(name, ready),
        }
        ready.append(f"test {name}")
    jobs[f"tag {name}"] = {
        "stage": "tag",
        "script": [shlex.join([*_IMAGE, "tag", name])],
        "needs": _needs(name, [*ready, *(f"tag {parent}" for parent in parents)]),
        "resource_group": f"tag/$CI_COMMIT_REF_SLUG/{name}",
    }
    return jobs | _deployments(image, options.pipeline)


def _deployments(image: PipelineImage, pipeline: Pipeline) -> dict[str, Job]:
    """Give the jobs that wait for a click: of a merge request to its environment, else to production."""
    if pipeline.is_trial:
        return {}
    name = image.name
    tagged = [_pushing_job(image), f"tag {name}"]
    job: Job = {
        "stage": "deploy",
        "when": "manual",
        "script": [shlex.join([*_IMAGE, "tag", name])],
    }
    if pipeline.kind == "merge-request":
        environment, stop = f"mr-{pipeline.merge_request}/{name}", f"stop {name}"
        lock = {"resource_group": environment}
        deployed = {"name": environment, "on_stop": stop, "auto_stop_in": _AUTO_STOP}
        return {
            f"deploy {name}": {**job, "needs": tagged, "environment": deployed, **lock},
            stop: {
                **job,
                # The branch may be gone by then.
                "variables": {"GIT_STRATEGY": "none"},
                "script": [shlex.join([*_IMAGE, "tag", "--remove", name])],
                "needs": [],
                "environment": {"name": environment, "action": "stop"},
                **lock,
            },
        }
    if pipeline.is_default_branch or (pipeline.kind == "tag" and pipeline.is_protected):
        environment = f"production/{name}"
        return {
            f"deploy {name}": {
                **job,
                "needs": tagged,
                "environment": {"name": environment},
                "resource_group": environment,
            }
        }
    return {}


def _pushing_job(image: PipelineImage) -> str:
    """Name the job after which others can build on an image."""
    return f"{'manifest' if image.arches else 'build'} {image.name}"


def _reference(name: str, options: JobOptions) -> str:
    return f"{options.registry_image}/{name}:{build_tag(options.pipeline)}"


def _build_command(image: PipelineImage, pins: Mapping[str, str], *, rebuild: bool) -> str:
    return shlex.join(
        [
            *(*_IMAGE, "build", image.name),
            *(f"--file={image.file}", f"--context={image.context}"),
            *(f"--build-arg={name}={value}" for name, value in image.build_args.items()),
            *(f"--parent={written}={used}" for written, used in sorted(pins.items())),
            *(["--rebuild"] if rebuild else ()),
            *(() if image.arches else (f"--dotenv={_DOTENV_FILE}",)),
        ]
    )


def _manifest_command(image: PipelineImage) -> str:
    arches = (f"--arch={arch}" for arch in image.arches)
    return shlex.join([*_IMAGE, "manifest", image.name, *arches, f"--dotenv={_DOTENV_FILE}"])


def _needs(name: str, jobs: Sequence[str]) -> list[str]:
    if len(jobs) > NEEDS_MAX:
        raise ChildPipelineError(
            f"a job of {name!r} would need {len(jobs)} others, and GitLab allows {NEEDS_MAX}; "
            "build it from fewer images of this repository, for example through one in between"
        )
    return list(jobs)


def _entered(image: str) -> dict[str, Any]:
    # Entrypoints of images are for people; a job starts a shell.
    return {"name": image, "entrypoint": [""]}


class _Dumper(yaml.SafeDumper):
    """Writes every text in double quotes."""

    def ignore_aliases(self, data: object) -> bool:  # noqa: ARG002 - the interface's
        return True


_Dumper.add_representer(
    str, lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", text, style='"')
)
