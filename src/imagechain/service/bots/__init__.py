"""The bots: rules of the service for comments on merge requests, and for deployments.

The test bot lets the images above a merge request's image be built on it; the deployment bot starts a
pipeline when an image became production. What they do are errands: each is written down before it acts, so
that no crash does one twice.
"""
