"""GitLab Runner's custom executor on podman: each job in containers of its own, with its image and services.

The runner starts this program about ten times for each job, so it uses the standard library only, and each
stage loads only its own module (`main.py`). Values are `NamedTuple`: importing `dataclasses` costs every
start three times as much. The rules of the protocol are in the runner's `docs/executors/custom.md` and
`executors/custom/`; what ours must do is in `docs/executor.md`.
"""
