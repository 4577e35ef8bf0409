"""What the tests of child pipelines share."""

from child_pipeline.schema import check_schema

__all__ = ["check_schema"]
