"""What requests have in common: errors, tokens, what is known, and where an answer is from."""

import hmac
from collections.abc import Sequence
from datetime import UTC, datetime
from difflib import get_close_matches

from starlette.requests import Request
from starlette.responses import Response

from imagechain.service.known import Known
from imagechain.web.answers import json_answer
from imagechain.web.ports import Service

#: `service`: from the replica that acts; `store`: another one acts, and this is what it had written.
SOURCE_HEADER = "Imagechain-Answer-From"
#: Ids that are named in the place of one that there is not.
_NEAREST_MAX = 3


class ApiError(Exception):
    """The request cannot be answered as it is.

    Attributes:
        status: the HTTP status that says so.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def bearer(request: Request) -> str:
    """Give the token that a request shows; empty: none."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def check_token(request: Request, token: str) -> None:
    """Make sure that a request shows the API token.

    Raises:
        ApiError: it does not.
    """
    # Compared in any case: the answer must not come sooner for some.
    if not hmac.compare_digest(bearer(request).encode(), token.encode()):
        raise ApiError(401, "what changes something needs the API token: Authorization: Bearer TOKEN")


async def need_known(service: Service) -> Known:
    """Ask the service what it knows.

    Raises:
        ApiError: nothing yet.
    """
    known = await service.known()
    if known is None:
        why = trouble_with_gitlab(service) or "the groups are being read; ask again in some seconds"
        raise ApiError(503, f"nothing is known yet: {why}")
    return known


def nearest(id: str, ids: Sequence[str]) -> list[str]:
    """Find what a person may have meant by an id that there is not: the last part of one, or a near one."""
    last = id.rpartition("/")[2]
    same = [one for one in ids if one.rpartition("/")[2].partition("@")[0] == last]
    return list(dict.fromkeys([*same, *get_close_matches(id, ids, _NEAREST_MAX, 0.5)]))[:_NEAREST_MAX]


def trouble_with_gitlab(service: Service) -> str:
    """Say why GitLab is of no use to the service now; empty: it is."""
    if service.gitlab_down_since is not None:
        since = datetime.fromtimestamp(service.gitlab_down_since, UTC)
        return f"GitLab does not answer since {since:%Y-%m-%d %H:%M:%S} UTC: nothing is started"
    if service.gitlab_trouble:
        return (
            f"GitLab does not do what the service asks ({service.gitlab_trouble}); "
            "`imagechain doctor` tells more"
        )
    return ""


def notices_of(known: Known, service: Service) -> tuple[str, ...]:
    """Say what a person should know beside the states of images: what is wrong, in sentences."""
    trouble = trouble_with_gitlab(service)
    return (*known.notices, trouble) if trouble else known.notices


def known_answer(known: Known, value: object) -> Response:
    """Answer, and tell programs where the answer is from; people are told by `StatusAnswer.notices`."""
    answer = json_answer(value)
    answer.headers[SOURCE_HEADER] = "store" if known.is_stored else "service"
    return answer
