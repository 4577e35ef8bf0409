"""What people say to the test bot, and what it answers. Pure.

`@<bot> test [PROJECT...] [image_tag=TAG]` on a line of its own; "please" is understood. Quoted lines and code
are not meant for the bot.
"""

import re

import msgspec

from imagechain.service.bots.trial import Step, Trial

#: GitLab takes notes of up to a million characters; what is longer than this is no request.
REQUEST_CHARACTERS_MAX = 10_000
PROJECTS_MAX = 50
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_FENCE = re.compile(r"^\s*(```|~~~)")
_USAGE = "write `@{bot} test [PROJECT...] [image_tag=g-123]`"


class Request(msgspec.Struct, frozen=True):
    """What a comment asks for."""

    #: Paths of projects; empty: all that are built from this one.
    projects: tuple[str, ...] = ()
    #: Empty: that of the merge request's newest pipeline.
    image_tag: str = ""
    #: Why it cannot be understood, and how to write it; empty: it can.
    problem: str = ""


def read_request(body: str, bot: str) -> Request | None:
    """Read what a comment asks the bot to test; None: it asks nothing."""
    if len(body) > REQUEST_CHARACTERS_MAX:
        return None
    is_code = False
    for line in body.splitlines():
        if _FENCE.match(line):
            is_code = not is_code
        words = line.split()
        if is_code or not words or words[0].rstrip(",:").lower() != f"@{bot.lower()}":
            continue
        wanted = words[2:] if words[1:2] and words[1].lower() == "please" else words[1:]
        if wanted and wanted[0].lower() == "test":
            return _read_words(wanted[1:], bot)
    return None


def _read_words(words: list[str], bot: str) -> Request:
    projects: list[str] = []
    image_tag = ""
    for word in words:
        name, equals, value = word.partition("=")
        if equals and name == "image_tag" and _TAG.fullmatch(value):
            image_tag = value
        elif equals or len(projects) == PROJECTS_MAX:
            return Request(problem=f"I do not understand `{_quoted(word)}`; {_USAGE.format(bot=bot)}.")
        else:
            projects.append(word.strip("/"))
    return Request(tuple(dict.fromkeys(projects)), image_tag)


def _quoted(word: str) -> str:
    """Make a word harmless that is shown again: no markup, nobody is called."""
    return re.sub(r"[^\w.=/:-]", "?", word)[:100]


def marker(trial: Trial) -> str:
    """Give the hidden line by which the bot finds its comment again, if GitLab's answer to it was lost."""
    return f"<!-- imagechain test {trial.id} -->"


def render(trial: Trial) -> str:
    """Write the comment of a trial as it is now."""
    lines = [marker(trial)]
    if trial.problem:
        lines += ["", trial.problem]
        return "\n".join(lines)
    counts = {state: sum(step.state == state for step in trial.steps) for state in _COUNTED}
    told = ", ".join(f"{count} {_COUNTED[state]}" for state, count in counts.items() if count)
    images = ", ".join(f"`{pinned}`" for pinned in trial.images.values())
    lines += ["", f"{'Tested' if trial.is_over else 'Testing'} `{trial.tag}` ({images}): {told}.", ""]
    lines += ["| project | result | pipeline |", "|---|---|---|"]
    lines += [_row(step) for step in trial.steps]
    return "\n".join(lines)


_COUNTED = {
    "passed": "passed",
    "failed": "failed",
    "running": "running",
    "waiting": "waiting",
    "sending": "starting",
    "skipped": "skipped",
}


def _row(step: Step) -> str:
    pipeline = f"[{step.pipeline}]({step.url})" if step.pipeline is not None else ""
    result = _COUNTED[step.state] + (f": {step.why}" if step.why else "")
    cells = (step.source, result.replace("|", "/").replace("\n", " "), pipeline)
    return f"| {' | '.join(cells)} |"
