"""The simulated GraphQL API: the part of GitLab's schema that reads projects, with all of its limits."""

from imagechain.testing.graphql.answer import answer_graphql

__all__ = ["answer_graphql"]
