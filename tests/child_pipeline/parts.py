"""Images and pipelines for the tests of child pipelines."""

from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from imagechain.engines.child_pipeline import JobOptions, Parent, PipelineImage, Reads, write_document
from imagechain.images.tags import Pipeline

REGISTRY = "registry.example.com/group/project"
DEFAULT_BRANCH = Pipeline(id="12", kind="branch", ref="main", is_default_branch=True)


def image(
    name: str, parents: Sequence[str] = (), *, arches: Sequence[str] = (), build_args: Mapping[str, str] = {}
) -> PipelineImage:
    return PipelineImage(
        name=name,
        file=f"{name}/Containerfile",
        context=name,
        build_args=build_args,
        arches=tuple(arches),
        parents=tuple(Parent(f"{REGISTRY}/{parent}:latest", parent) for parent in parents),
        reads=Reads(files=frozenset({f"{name}/Containerfile"}), context=name, sources=None),
    )


def options(pipeline: Pipeline = DEFAULT_BRANCH, **changes: Any) -> JobOptions:
    given = {
        "pipeline": pipeline,
        "registry_image": REGISTRY,
        "job_image": "",
        "test_file": "",
        "runner_tags": {},
        "rebuild": False,
        "jobs_max": 10_000,
    }
    return JobOptions(**{**given, **changes})


def write(images: Sequence[PipelineImage], used: JobOptions | None = None) -> dict[str, Any]:
    """Write the pipeline of images, and read it as YAML 1.1."""
    document: dict[str, Any] = yaml.safe_load(write_document(images, used or options()))
    return document


def jobs(document: Mapping[str, Any]) -> dict[str, Any]:
    keywords = {"workflow", "stages", "include", "default", "variables"}
    return {name: job for name, job in document.items() if name not in keywords}
