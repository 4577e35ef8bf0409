"""Keeps the containers of a host on the newest image: each comes back as it was, or the old one comes back.

    observe ──► plan (pure) ──► update, one group of containers at a time ──► tidy, tell

`plan`, `replay`, `differences` and `dependents` are pure. `podman` and `systemd` run programs; `update` keeps
a journal, so that the next run finishes or undoes what a killed run began. What cannot be made anew
faithfully is only reported: nothing here guesses.
"""
