"""A client of GitLab: REST, GraphQL, hooks; knows nothing of chains."""
