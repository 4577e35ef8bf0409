"""How calls are sent: retries, budgets, pages, redirections, the token, and what each error says to do."""

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from email.utils import format_datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx2
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gitlab_client.fake import URL
from imagechain.config import ConfigError, GitLabSettings
from imagechain.gitlab import graphql, rest
from imagechain.gitlab.answers import read
from imagechain.gitlab.call import Answer, Call
from imagechain.gitlab.client import ATTEMPTS_MAX, IMPATIENT, PATIENT, Client, Patience, connect
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
    RefusedError,
    RetryableError,
    TokenError,
)

PIPELINE = {
    "id": 1,
    "project_id": 2,
    "status": "created",
    "source": "api",
    "ref": "main",
    "sha": "abc",
    "created_at": "2026-01-01T00:00:00.000Z",
    "updated_at": "2026-01-01T00:00:00.000Z",
    "a field of a later GitLab": {},
}
JSON_LIMIT = httpx2.Response(429, json={"message": "429 Too Many Requests"})


class Script:
    """Answers requests by a list, and notes requests and waits."""

    def __init__(self, *answers: httpx2.Response | Exception) -> None:
        self._answers = list(answers)
        self.requests: list[httpx2.Request] = []
        self.waits: list[float] = []
        self.now = 1_000_000.0
        self.token = "first"

    def answer(self, request: httpx2.Request) -> httpx2.Response:
        self.requests.append(request)
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.now += seconds

    def run(self, work: Callable[[Client], Any]) -> Any:
        async def main() -> Any:
            async with Client(
                URL,
                lambda: self.token,
                transport=httpx2.MockTransport(self.answer),
                sleep=self.sleep,
                now=lambda: self.now,
                chance=lambda: 0.0,
            ) as client:
                return await work(client)

        return asyncio.run(main())

    def send(self, call: Call[Any]) -> Any:
        return self.run(lambda client: client.send(call))


def ok(body: object = PIPELINE, **headers: str) -> httpx2.Response:
    return httpx2.Response(200, json=body, headers=headers)


def refused(status: int, body: object, **headers: str) -> httpx2.Response:
    return httpx2.Response(status, json=body, headers=headers)


# --- what is sent ---------------------------------------------------------------------------------------


def test_requests_have_the_token_and_none_of_the_headers_of_hooks() -> None:
    script = Script(ok())
    script.send(rest.create_pipeline("images/base", "main", variables={"A": "1"}, inputs={"b": "2"}))
    [request] = script.requests
    assert request.headers["PRIVATE-TOKEN"] == "first"
    assert request.headers["User-Agent"].startswith("imagechain/")
    assert not any(name.lower().startswith("x-gitlab") for name in request.headers)
    assert request.url.raw_path == b"/api/v4/projects/images%2Fbase/pipeline"
    assert msgspec.json.decode(request.content) == {
        "ref": "main",
        "variables": [{"key": "A", "value": "1", "variable_type": "env_var"}],
        "inputs": {"b": "2"},
    }


def test_without_variables_none_are_sent() -> None:
    script = Script(ok())
    script.send(rest.create_pipeline(1, "main"))
    assert msgspec.json.decode(script.requests[0].content) == {"ref": "main"}


@given(st.text(min_size=1, max_size=20))
def test_any_name_is_one_part_of_the_path(name: str) -> None:
    path = rest.branch(name, name).path
    assert path.startswith("/api/v4/projects/")
    assert path.count("/") == 7


def test_a_gitlab_below_a_path_is_asked_there() -> None:
    script = Script(ok())

    async def main() -> None:
        transport = httpx2.MockTransport(script.answer)
        async with Client(f"{URL}/git/", lambda: "t", transport=transport) as client:
            await client.send(rest.pipeline(1, 2))

    asyncio.run(main())
    assert str(script.requests[0].url) == f"{URL}/git/api/v4/projects/1/pipelines/2"


# --- repeating ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "failure",
    [
        httpx2.Response(502),
        httpx2.Response(500, json={"message": "500"}),
        httpx2.ConnectError("refused"),
        httpx2.RemoteProtocolError("closed"),
        JSON_LIMIT,
        httpx2.Response(409, json={"message": "409 Conflict"}),
    ],
)
def test_what_reads_is_repeated_and_what_creates_is_not(failure: httpx2.Response | Exception) -> None:
    script = Script(failure, ok())
    assert script.send(rest.pipeline(1, 1)).id == 1
    assert len(script.requests) == 2
    script = Script(failure)
    with pytest.raises(RetryableError):
        script.send(rest.pipeline(1, 1))
    assert len(script.requests) == ATTEMPTS_MAX
    script = Script(failure)
    with pytest.raises(RetryableError):
        script.send(rest.create_pipeline(1, "main"))
    assert len(script.requests) == 1


def test_waits_grow_and_gitlab_may_ask_for_longer_ones() -> None:
    script = Script(httpx2.Response(503))
    with pytest.raises(OverloadedError):
        script.send(rest.version())
    assert script.waits == [0.5, 1.0, 2.0, 4.0]
    script = Script(refused(429, {"message": "429"}, **{"Retry-After": "17"}), ok({"version": "19"}))
    script.send(rest.version())
    assert script.waits == [17.0]
    date = "Mon, 12 Jan 1970 13:47:10 GMT"  # 30 seconds after the script's clock
    script = Script(refused(503, {}, **{"Retry-After": date}), ok({"version": "19"}))
    script.send(rest.version())
    assert script.waits == [30.0]


def test_a_wait_that_is_too_long_is_left_to_the_caller() -> None:
    script = Script(refused(429, {}, **{"Retry-After": "3600"}))
    with pytest.raises(RateLimitedError) as caught:
        script.send(rest.version())
    assert caught.value.retry_after_seconds == 3600
    assert len(script.requests) == 1


def test_the_text_limit_stops_all_calls_and_the_json_limit_only_its_own() -> None:
    text = httpx2.Response(429, text="Retry later", headers={"Retry-After": "20"})
    for limit, expected in ((text, [20.0]), (JSON_LIMIT, [])):
        script = Script(limit, ok({"version": "19"}))

        async def both(client: Client) -> None:
            with pytest.raises(RateLimitedError):
                await client.send(rest.create_pipeline(1, "main"))
            await client.send(rest.version())

        script.run(both)
        assert script.waits == expected


def test_a_spent_budget_waits_for_the_next_period() -> None:
    spent = {"RateLimit-Remaining": "0", "RateLimit-Reset": "1000030"}
    script = Script(ok({"version": "19"}, **spent), ok({"version": "19"}, **{"RateLimit-Remaining": "7"}))

    async def twice(client: Client) -> int | None:
        await client.send(rest.version())
        await client.send(rest.version())
        return client.requests_left

    assert script.run(twice) == 7
    assert script.waits == [30.0]


def test_a_wrong_clock_does_not_stop_the_client_for_hours() -> None:
    spent = {"RateLimit-Remaining": "0", "RateLimit-Reset": "9999999999"}
    script = Script(ok({"version": "19"}, **spent), ok({"version": "19"}))

    async def twice(client: Client) -> None:
        await client.send(rest.version())
        await client.send(rest.version())

    script.run(twice)
    assert sum(script.waits) <= 90


@pytest.mark.parametrize("ahead", [0.0, 0.4, -7.3, 86_400.0, -86_400.0])
def test_gitlabs_clock_is_known_to_a_second_and_better_with_each_answer(ahead: float) -> None:
    """It tells whole seconds, and answers take their time."""
    script = Script(ok({"version": "19"}))
    seconds = iter([0.1, 0.9, 0.35, 0.2, 0.7, 0.05, 0.99, 0.5] * 10)

    def told(request: httpx2.Request) -> httpx2.Response:
        script.now += next(seconds) / 2
        date = format_datetime(datetime.fromtimestamp(int(script.now + ahead), UTC), usegmt=True)
        script.now += next(seconds) / 2
        return httpx2.Response(200, json={"version": "19"}, headers={"Date": date})

    script.answer = told  # type: ignore[method-assign]

    async def ask(client: Client) -> list[float]:
        found = []
        for _ in range(40):
            await client.send(rest.version())
            assert client.clock_ahead_seconds is not None
            found.append(client.clock_ahead_seconds)
            assert client.now_there == script.now + client.clock_ahead_seconds
        return found

    found = script.run(ask)
    assert abs(found[0] - ahead) <= 1.5
    assert abs(found[-1] - ahead) <= 0.4
    # No step back and forth: what was told once is the same time when it is told again.
    steps = [after - before for before, after in pairwise(found) if after != before]
    assert all(step > 0 for step in steps) or all(step < 0 for step in steps)


def test_a_clock_that_agrees_is_not_moved_by_a_slow_answer() -> None:
    """GitLab tells the time at which it began to answer, or at which it was done."""
    script = Script(ok())

    def told(request: httpx2.Request) -> httpx2.Response:
        first = script.now
        script.now += 10.3
        at = first if len(script.requests) == 0 else script.now
        script.requests.append(request)
        date = format_datetime(datetime.fromtimestamp(int(at), UTC), usegmt=True)
        return httpx2.Response(200, json={"version": "19"}, headers={"Date": date})

    script.answer = told  # type: ignore[method-assign]

    async def ask(client: Client) -> list[float | None]:
        found = []
        for _ in range(2):
            await client.send(rest.version())
            found.append(client.clock_ahead_seconds)
        return found

    assert script.run(ask) == [0.0, 0.0]


# --- the token ------------------------------------------------------------------------------------------


def test_a_rotated_token_is_read_again_once() -> None:
    script = Script(ok())
    inner = script.answer

    def answer(request: httpx2.Request) -> httpx2.Response:
        if request.headers["PRIVATE-TOKEN"] == "first":
            script.token = "second"
            script.requests.append(request)
            return refused(401, {"message": "401 Unauthorized"})
        return inner(request)

    script.answer = answer  # type: ignore[method-assign]

    async def many(client: Client) -> None:
        await client.send(rest.create_pipeline(1, "main"))
        await asyncio.gather(*(client.send(rest.pipeline(1, 1)) for _ in range(5)))

    script.run(many)
    assert [one.headers["PRIVATE-TOKEN"] for one in script.requests] == ["first", *["second"] * 6]


def test_a_token_that_stays_wrong_is_not_tried_again() -> None:
    script = Script(refused(401, {"error": "invalid_token", "error_description": "Token was revoked."}))
    with pytest.raises(TokenError, match=r"Token was revoked.*gitlab\.token_file"):
        script.send(rest.version())
    assert len(script.requests) == 1


def test_a_file_without_a_token_is_a_token_that_is_refused_until_there_is_one() -> None:
    script = Script(refused(401, {"message": "401"}), ok())
    tokens: list[str | ConfigError] = ["first", ConfigError("cannot read the secret file /token"), "second"]

    def read_token() -> str:
        token = tokens.pop(0)
        if isinstance(token, ConfigError):
            raise token
        return token

    async def main() -> None:
        transport = httpx2.MockTransport(script.answer)
        async with Client(URL, read_token, transport=transport) as client:
            with pytest.raises(TokenError, match=r"GitLab answers 401.*cannot read the secret file /token"):
                await client.send(rest.pipeline(1, 1))
            assert "cannot read the secret file /token" in client.token_trouble
            await client.send(rest.pipeline(1, 1))
            assert client.token_trouble == ""

    asyncio.run(main())


def test_that_the_token_is_refused_is_known_until_gitlab_answers_to_it() -> None:
    script = Script(refused(401, {"message": "401"}), httpx2.Response(503), refused(404, {"message": "404"}))

    async def troubles(client: Client) -> list[str]:
        found = []
        for error in (TokenError, OverloadedError, NotFoundError):
            with pytest.raises(error):
                await client.send(rest.create_pipeline(1, "main"))
            found.append(client.token_trouble)
        return found

    first, second, third = script.run(troubles)
    assert "the token is wrong, expired or revoked" in first
    assert (second, third) == (first, "")


def test_settings_that_are_missing_are_named(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("glpat-1")
    for settings, named in (
        (GitLabSettings(), r"gitlab\.url"),
        (GitLabSettings(url=URL), r"gitlab\.token_file"),
        (GitLabSettings(url=URL, token_file=str(tmp_path / "no")), "cannot read the secret file"),
        (GitLabSettings(url=URL, token_file=str(token), ca_file=str(token)), r"gitlab\.ca_file"),
        (GitLabSettings(url=URL, token_file=str(token), ca_file="/nowhere"), r"gitlab\.ca_file"),
    ):
        with pytest.raises(ConfigError, match=named):
            connect(settings, {})


# --- redirections and pages -----------------------------------------------------------------------------


def test_a_renamed_project_is_followed_with_the_token() -> None:
    moved = httpx2.Response(301, headers={"Location": f"{URL}/api/v4/projects/new%2Fpath"})
    script = Script(moved, ok({"id": 1, "path_with_namespace": "new/path"}))
    assert script.send(rest.project("old/path")).path_with_namespace == "new/path"
    assert script.requests[1].headers["PRIVATE-TOKEN"] == "first"


@pytest.mark.parametrize(
    "location",
    [
        "https://evil.example.com/x",
        "http://gitlab.example.com/x",
        "https://gitlab.example.com:8443/x",
        "//evil/x",
    ],
)
def test_the_token_is_never_sent_to_another_server(location: str) -> None:
    script = Script(httpx2.Response(301, headers={"Location": location}))
    with pytest.raises(MovedError, match="the token is not sent there"):
        script.send(rest.project("old"))
    assert len(script.requests) == 1
    script = Script(ok([], Link=f'<{location}>; rel="next"'))
    with pytest.raises(MovedError, match="the token is not sent there"):
        script.run(lambda client: client.all(rest.hooks(1)))


def test_a_redirection_in_a_circle_ends() -> None:
    script = Script(httpx2.Response(302, headers={"Location": f"{URL}/users/sign_in"}))
    with pytest.raises(MovedError, match=r"gitlab\.url"):
        script.send(rest.version())
    assert len(script.requests) <= 5


def test_what_changes_something_does_not_follow_a_renaming() -> None:
    script = Script(refused(301, {}, Location=f"{URL}/api/v4/projects/1/pipeline"))
    with pytest.raises(MovedError):
        script.send(rest.create_pipeline("old", "main"))
    script = Script(refused(405, {"message": "Non GET methods are not allowed for moved projects"}))
    with pytest.raises(MovedError, match="scan again"):
        script.send(rest.create_pipeline("old", "main"))


def hook_row(number: int) -> dict[str, Any]:
    return {"id": number, "url": "https://x"}


def test_pages_by_number_and_by_link_are_followed_to_the_end() -> None:
    offset = Script(
        ok([hook_row(1)], **{"x-next-page": "2", "Link": f'<{URL}/wrong>; rel="next"'}),
        ok([hook_row(2)], **{"x-next-page": ""}),
    )
    assert [one.id for one in offset.run(lambda client: client.all(rest.hooks(1)))] == [1, 2]
    assert offset.requests[1].url.params["page"] == "2"
    assert offset.requests[1].url.params["per_page"] == "100"
    links = f'<{URL}/first>; rel="first", <{URL}/api/v4/projects/1/hooks?cursor=x>; rel="next"'
    keyset = Script(ok([hook_row(1)], Link=links), ok([hook_row(2)]))
    assert [one.id for one in keyset.run(lambda client: client.all(rest.hooks(1)))] == [1, 2]
    assert keyset.requests[1].url.params["cursor"] == "x"


def test_lists_ask_for_what_their_filters_need() -> None:
    after = dict(rest.pipelines(1, updated_after=datetime(2026, 1, 1, tzinfo=UTC)).params)
    assert (after["order_by"], after["sort"]) == ("updated_at", "asc")
    assert after["updated_after"] == "2026-01-01T00:00:00+00:00"


def test_a_hook_says_all_of_its_events_and_only_the_secrets_that_it_has() -> None:
    form = rest.HookForm(url="https://x", events=frozenset({"pipeline_events"}), token="t")
    body = msgspec.json.decode(rest.create_hook(1, form).body or b"")
    assert body["pipeline_events"] is True
    assert body["push_events"] is False
    assert body["token"] == "t"
    assert "signing_token" not in body


# --- answers --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "body", "error", "says"),
    [
        (400, {"message": '400 Bad request - "title" not given'}, RefusedError, "title"),
        (400, {"error": "ref is missing"}, RefusedError, "ref is missing"),
        (422, {"message": {"bio": ["is too long"]}}, RefusedError, "bio: is too long"),
        (403, {"error": "insufficient_scope", "scope": "api"}, ForbiddenError, "make one with the scope api"),
        (403, {"message": "403 Forbidden"}, ForbiddenError, "the role Maintainer there"),
        (404, {"message": "404 Project Not Found"}, NotFoundError, "may not see it"),
        (412, {"message": "412 Precondition failed"}, RefusedError, "412"),
        (418, {}, ContractError, "report this"),
    ],
)
def test_each_error_says_what_to_do(status: int, body: object, error: type[GitLabError], says: str) -> None:
    script = Script(refused(status, body))
    with pytest.raises(error, match=says) as caught:
        script.send(rest.create_hook(1, rest.HookForm(url="https://x", events=frozenset())))
    assert "adding a webhook to 1" in str(caught.value)
    assert len(script.requests) == 1


def test_refused_webhooks_say_what_to_check() -> None:
    form = rest.HookForm(url="http://10.0.0.1/", events=frozenset())
    script = Script(refused(422, {"error": "Invalid url given"}))
    with pytest.raises(RefusedError, match=r"Invalid url given.*requests to the local network"):
        script.send(rest.create_hook(1, form))
    script = Script(refused(422, {"message": "Hook executed with HTTP 500"}))
    with pytest.raises(RefusedError, match=r"HTTP 500.*reaches server\.url"):
        script.send(rest.test_hook(1, 2, "push_events"))


@pytest.mark.parametrize(
    ("text", "why", "remedy"),
    [
        (
            "Pipeline will not run for the selected trigger. The rules configuration prevented any jobs",
            "will-not-run",
            "source `api`",
        ),
        ("Insufficient permissions to set pipeline variables", "variables", "spec:inputs"),
        ("Missing CI config file", "no-ci", r"\.gitlab-ci\.yml"),
        ("Reference not found", "no-ref", "scan again"),
        ("You don't have sufficient permission to run a pipeline on 'main'", "role", "push or merge"),
        ("Insufficient permissions to create a new pipeline", "role", "Developer"),
        ("jobs:build config contains unknown keys: foo", "invalid-ci", "mend it"),
        ("`a` input: required value has not been provided", "inputs", "spec:inputs"),
        ("Something else", "other", "Something else"),
    ],
)
def test_a_refused_pipeline_says_why_and_what_to_do(text: str, why: str, remedy: str) -> None:
    script = Script(refused(400, {"message": {"base": [text]}}))
    with pytest.raises(PipelineRefusedError, match=remedy) as caught:
        script.send(rest.create_pipeline(1, "main"))
    assert caught.value.why == why
    assert text in str(caught.value)


def test_too_many_pipelines_is_a_limit_and_no_refusal() -> None:
    text = "Too many pipelines created in the last minute. Try again later."
    script = Script(refused(400, {"message": {"base": [text]}}))
    with pytest.raises(RateLimitedError) as caught:
        script.send(rest.create_pipeline(1, "main"))
    assert (caught.value.retry_after_seconds, caught.value.all_calls) == (60, False)


def test_a_blocked_address_is_waited_for() -> None:
    script = Script(httpx2.Response(403, text="Forbidden\n"))
    with pytest.raises(RetryableError, match="blocks an address") as caught:
        script.send(rest.version())
    assert caught.value.retry_after_seconds == 900


def test_a_page_instead_of_an_answer_says_where_it_may_come_from() -> None:
    script = Script(httpx2.Response(200, html="<html>sign in</html>"))
    with pytest.raises(ContractError, match=r"text/html.*gitlab\.url"):
        script.send(rest.version())


def test_an_untrusted_certificate_names_the_setting() -> None:
    failure = httpx2.ConnectError("[SSL: CERTIFICATE_VERIFY_FAILED] self-signed certificate")
    script = Script(failure)
    with pytest.raises(PermanentError, match=r"gitlab\.ca_file"):
        script.send(rest.version())
    assert len(script.requests) == 1


def test_an_answer_that_comes_byte_by_byte_is_not_waited_for_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("imagechain.gitlab.client.EXCHANGE_SECONDS_MAX", 0.05)

    class Drops(httpx2.AsyncByteStream):
        async def __aiter__(self) -> AsyncIterator[bytes]:
            while True:
                yield b" "
                await asyncio.sleep(0.01)

    async def main() -> None:
        answers = httpx2.MockTransport(lambda _: httpx2.Response(200, stream=Drops()))
        async with Client(URL, lambda: "token", transport=answers) as client:
            with pytest.raises(OverloadedError, match="GitLab did not answer"):
                await client.send(rest.create_pipeline(1, "main"))

    asyncio.run(main())


def test_an_answer_without_end_is_cut() -> None:
    script = Script(httpx2.Response(200, content=b"x" * 2_000))
    with pytest.raises(RefusedError, match="larger than 1000 bytes"):
        script.send(rest.raw_file(1, "a", "main", bytes_max=1_000))
    assert len(script.requests) == 1
    call = msgspec.structs.replace(graphql.trees("g", [1], None), answer_bytes_max=1_000)
    with pytest.raises(OverloadedError, match="less is asked for"):
        script.send(call)


@given(st.integers(100, 599), st.binary(max_size=200), st.sampled_from(["application/json", "text/html", ""]))
def test_any_answer_is_a_result_or_an_error_of_the_tree(status: int, body: bytes, kind: str) -> None:
    answer = Answer(status, {"content-type": kind, "retry-after": "soon"}, body)
    message = ""
    try:
        read(rest.create_pipeline(1, "main"), answer, now=0.0)
    except GitLabError as error:
        message = str(error)
    assert message.isprintable()


def test_a_person_is_told_within_seconds_that_gitlab_cannot_be_reached_a_service_waits_longer() -> None:
    def tries(failure: httpx2.Response | Exception, patience: Patience = PATIENT) -> tuple[int, float]:
        script = Script(failure)

        async def main() -> None:
            transport = httpx2.MockTransport(script.answer)
            async with Client(
                URL,
                lambda: "t",
                patience=patience,
                transport=transport,
                sleep=script.sleep,
                chance=lambda: 0.999,
            ) as client:
                await client.send(rest.version())

        with pytest.raises(RetryableError):
            asyncio.run(main())
        return len(script.requests), sum(script.waits)

    refused = httpx2.ConnectError("connection refused")
    count, seconds = tries(refused, IMPATIENT)
    assert count == 3
    assert seconds <= 3.0
    assert tries(refused)[0] == ATTEMPTS_MAX
    # One that answers is worth waiting for.
    assert tries(httpx2.Response(503), IMPATIENT)[0] == ATTEMPTS_MAX
