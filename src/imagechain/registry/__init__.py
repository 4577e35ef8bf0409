"""A client of the OCI distribution protocol; knows nothing of chains."""
