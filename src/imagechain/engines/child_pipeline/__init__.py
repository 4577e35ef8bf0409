"""The child pipeline of a repository with several images: which images, which of them, which jobs."""

from imagechain.engines.child_pipeline.changes import GLOBAL_FILES, Base, choose, find_base
from imagechain.engines.child_pipeline.document import JobOptions, write_document
from imagechain.engines.child_pipeline.images import Repository, list_images
from imagechain.engines.child_pipeline.values import ChildPipelineError, Parent, PipelineImage, Reads

__all__ = [
    "GLOBAL_FILES",
    "Base",
    "ChildPipelineError",
    "JobOptions",
    "Parent",
    "PipelineImage",
    "Reads",
    "Repository",
    "choose",
    "find_base",
    "list_images",
    "write_document",
]
