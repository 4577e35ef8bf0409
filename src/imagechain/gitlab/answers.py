"""What GitLab's answers mean: the result of a call, or the error that says what to do. No network here.

Sources: GitLab's `doc/api/rest`, `lib/api/helpers.rb`, its two kinds of rate limits, and the models that
refuse a pipeline.
"""

import math
from collections.abc import Mapping
from email.utils import parsedate_to_datetime

import msgspec

from imagechain.gitlab.call import Answer, Call, Result
from imagechain.gitlab.errors import (
    ContractError,
    ForbiddenError,
    GitLabError,
    MovedError,
    NotFoundError,
    OverloadedError,
    PermanentError,
    PipelineRefusedError,
    RateLimitedError,
    Refusal,
    RefusedError,
    RetryableError,
    TokenError,
)

#: How much of an answer an error shows.
SHOWN_CHARACTERS_MAX = 300
#: GitLab's default where it limits a kind of call and names no time.
LIMIT_SECONDS_DEFAULT = 60.0
#: GitLab refuses an address for so long that sent too many wrong tokens.
BAN_SECONDS = 900.0


def read(call: Call[Result], answer: Answer, *, now: float) -> Result:
    """Decode the answer to a call.

    Raises:
        GitLabError: of the kind that says what to do.
    """
    if 200 <= answer.status < 300:
        try:
            return call.decode(answer.body)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            kind = answer.headers.get("content-type", "no content type")
            raise ContractError(
                f"{call.about}: GitLab's answer is not what its API documents ({error}; {kind}); check that "
                "gitlab.url is GitLab's own address, without a login page before it; else report this"
            ) from error
    raise _error(call, answer, seconds_to_wait(answer.headers, now))


def next_page(answer: Answer) -> str | None:
    """Tell the page after this one: its number (offset), or a whole URL (keyset); None at the end."""
    if "x-next-page" in answer.headers:
        return answer.headers["x-next-page"] or None
    for link in answer.headers.get("link", "").split(","):
        target, _, rest = link.partition(";")
        if 'rel="next"' in rest.replace(" ", ""):
            return target.strip().removeprefix("<").removesuffix(">")
    return None


def seconds_to_wait(headers: Mapping[str, str], now: float) -> float | None:
    """Read `Retry-After`, in seconds or as a date."""
    text = headers.get("retry-after", "").strip()
    if not text:
        return None
    try:
        seconds = float(text)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(text).timestamp() - now
        except ValueError:
            return None
    return max(0.0, seconds) if math.isfinite(seconds) else None


class _Message(msgspec.Struct, frozen=True):
    """The body of an error; `message` may be a text, a list or an object."""

    message: object = None
    error: object = None
    error_description: str = ""
    scope: str = ""


def _error(call: Call[Result], answer: Answer, wait_seconds: float | None) -> GitLabError:
    status = answer.status
    is_json = "json" in answer.headers.get("content-type", "")
    said = _said(answer.body)
    what = f"{call.about}: GitLab answers {status}" + (f" ({said})" if said else "")
    match status:
        case 401:
            return TokenError(
                f"{what}: the token is wrong, expired or revoked; put a new one into "
                "the file that gitlab.token_file names"
            )
        case 403:
            return _forbidden(call, what, said, is_json=is_json)
        case 404:
            return NotFoundError(
                f"{what}: it does not exist, or the token's user may not see it; check the path, and "
                f"give the user the role {call.needs.role} there"
            )
        case 405 if "moved" in said.lower():
            return MovedError(f"{what}: the project was renamed or moved; scan again to learn its new path")
        case 429:
            seconds = LIMIT_SECONDS_DEFAULT if wait_seconds is None else wait_seconds
            # Rack::Attack answers with a plain text, and limits everything; a limit of the application with
            # JSON, and limits calls of one kind only.
            return RateLimitedError(
                f"{what}: too many requests; GitLab asks to wait {seconds:g} seconds",
                retry_after_seconds=seconds,
                all_calls=not is_json,
            )
        case 408 | 500 | 502 | 503 | 504:
            return OverloadedError(
                f"{what}: GitLab is down or overloaded; it is asked again later",
                retry_after_seconds=wait_seconds,
            )
        case 409:
            return RetryableError(f"{what}: something else changed it at the same time; it is tried again")
        case 400 | 412 | 413 | 422:
            return _refused(call, what, said)
        case _ if 300 <= status < 400:
            return MovedError(f"{what}, a redirection that is not followed; check gitlab.url")
        case _ if status >= 500:
            return OverloadedError(f"{what}: GitLab is down or overloaded; it is asked again later")
    return ContractError(f"{what}, which its API does not document; report this")


def _forbidden(call: Call[Result], what: str, said: str, *, is_json: bool) -> GitLabError:
    scope, role = call.needs.scope, call.needs.role
    if "insufficient_scope" in said:
        return ForbiddenError(f"{what}: the token lacks a scope; make one with the scope {scope}")
    if not is_json:
        return RetryableError(
            f"{what}, not by its API: GitLab blocks an address for 15 minutes after many wrong "
            "tokens, or a proxy stands before it; check the token",
            retry_after_seconds=BAN_SECONDS,
        )
    return ForbiddenError(
        f"{what}: the token's user needs the role {role} there, and the token the scope {scope}"
    )


_MAY_NOT_RUN = (
    "the token's user may not run pipelines on this branch; make the user a Developer, and if the branch is "
    "protected, allow the user to push or merge there"
)
#: What a message of GitLab's pipeline creation contains -> why it was refused, and what to do.
_REFUSALS: tuple[tuple[str, Refusal, str], ...] = (
    (
        "will not run",
        "will-not-run",
        "its rules leave no job to a pipeline that the API starts; allow the source `api` in them",
    ),
    (
        "set pipeline variables",
        "variables",
        "the project lets nobody set pipeline variables; declare `spec:inputs`, or start it without them",
    ),
    ("missing ci config", "no-ci", "the branch has no CI configuration; add a .gitlab-ci.yml"),
    ("missing .gitlab-ci.yml", "no-ci", "the branch has no CI configuration; add a .gitlab-ci.yml"),
    ("reference not found", "no-ref", "the branch does not exist any more; scan again"),
    # In both "insufficient permissions" and "You do not have sufficient permission".
    ("sufficient permission", "role", _MAY_NOT_RUN),
    ("input", "inputs", "the inputs do not fit `spec:inputs` of the CI configuration; declare them there"),
    ("yaml", "invalid-ci", "the CI configuration is not valid; mend it"),
    ("config", "invalid-ci", "the CI configuration is not valid; mend it"),
)


def _refused(call: Call[Result], what: str, said: str) -> GitLabError:
    if call.method == "POST" and call.path.endswith("/pipeline"):
        return _pipeline_refused(what, said)
    if "/hooks" not in call.path:
        return RefusedError(f"{what}: GitLab refuses the request; mend what its message names")
    if "/test/" in call.path:
        return RefusedError(
            f"{what}: GitLab could not deliver the webhook, so a disabled one stays so; check that GitLab "
            "reaches server.url, and that its certificate is trusted there"
        )
    return RefusedError(
        f"{what}: if it is the address that GitLab refuses, it must be public, or an administrator must "
        "allow requests to the local network from webhooks; a project has at most 100 webhooks"
    )


def _pipeline_refused(what: str, said: str) -> GitLabError:
    text = said.lower()
    if "too many pipelines" in text:
        return RateLimitedError(
            f"{what}: GitLab limits how many pipelines start in a minute",
            retry_after_seconds=LIMIT_SECONDS_DEFAULT,
            all_calls=False,
        )
    for part, why, remedy in _REFUSALS:
        if part in text:
            return PipelineRefusedError(f"{what}: {remedy}", why=why)
    return PipelineRefusedError(f"{what}: mend what its message names", why="other")


def _said(body: bytes) -> str:
    """Read what an error says, in one line, whatever its shape."""
    try:
        message = msgspec.json.decode(body, type=_Message)
    except (msgspec.DecodeError, UnicodeDecodeError):
        text = body[: SHOWN_CHARACTERS_MAX * 4].decode(errors="replace")
        # A page of a proxy says nothing to people in one line.
        parts = [] if text.lstrip().startswith("<") else [text]
    else:
        parts = [*_texts(message.message), *_texts(message.error), message.error_description]
    line = "; ".join(" ".join(part.split()) for part in parts if part.strip())
    line = "".join(character if character.isprintable() else "?" for character in line)
    return line if len(line) <= SHOWN_CHARACTERS_MAX else f"{line[:SHOWN_CHARACTERS_MAX]}..."


def _texts(value: object) -> list[str]:
    """List the texts of a message: `{"base": ["..."]}` gives `base: ...`, without the `base`."""
    match value:
        case None:
            return []
        case dict():
            return [
                text if field == "base" else f"{field}: {text}"
                for field, inner in value.items()
                for text in _texts(inner)
            ]
        case list():
            return [text for inner in value for text in _texts(inner)]
    return [str(value)]


def unreachable(call: Call[Result], error: Exception) -> GitLabError:
    """Tell what a failure of the network means."""
    text = str(error) or type(error).__name__
    if "CERTIFICATE_VERIFY_FAILED" in text:
        return PermanentError(
            f"{call.about}: the certificate of GitLab is not trusted ({text}); name its "
            "authority in gitlab.ca_file"
        )
    return RetryableError(
        f"{call.about}: GitLab cannot be reached ({text}); check gitlab.url and the network"
    )
