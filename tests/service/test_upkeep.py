"""Webhooks: what is planned for a project or group."""

import pytest

from imagechain.gitlab.hook_secrets import HookSecrets
from imagechain.service.ports import Hook, HookSettings
from imagechain.service.upkeep import EVENTS, HookPlan, plan_hooks, wanted_hook

URL = "https://imagechain.test/hooks/gitlab"
WANTED = HookSettings(url=URL, events=EVENTS, token="t", signing_token="whsec_s")
GOOD = Hook(id=1, url=URL, events=frozenset(EVENTS), alert_status="executable", has_signing_token=True)


def hook(**fields: object) -> Hook:
    values = {name: getattr(GOOD, name) for name in GOOD.__struct_fields__}
    return Hook(**(values | fields))


def test_a_project_without_our_hook_gets_one_and_hooks_of_others_are_left_alone() -> None:
    assert plan_hooks([], WANTED) == HookPlan(creates=True)
    assert plan_hooks([hook(url="https://chat.test")], WANTED) == HookPlan(creates=True)


def test_a_hook_that_is_right_is_left_alone_also_where_gitlab_does_not_know_signatures() -> None:
    assert plan_hooks([GOOD], WANTED) == HookPlan()
    assert plan_hooks([hook(has_signing_token=None)], WANTED) == HookPlan()


@pytest.mark.parametrize(
    "fields",
    [
        {"events": frozenset({"push_events"})},
        {"events": EVENTS | {"job_events"}},
        {"has_token": False},
        {"has_signing_token": False},
        {"verifies_tls": False},
    ],
)
def test_a_hook_that_is_wrong_is_set_again(fields: dict[str, object]) -> None:
    assert plan_hooks([hook(**fields)], WANTED) == HookPlan(updates=(1,))


@pytest.mark.parametrize("alert_status", ["temporarily_disabled", "disabled"])
def test_a_hook_that_gitlab_disabled_is_tested_which_enables_it(alert_status: str) -> None:
    assert plan_hooks([hook(alert_status=alert_status)], WANTED) == HookPlan(tests=(1,))


def test_of_doubles_the_oldest_stays() -> None:
    assert plan_hooks([hook(id=9), GOOD], WANTED) == HookPlan(deletes=(9,))


def test_hooks_of_groups_have_their_group_in_the_address_and_secrets_of_their_own() -> None:
    wanted = wanted_hook("https://imagechain.test/", HookSecrets(b"0" * 32))
    assert wanted(7).url == URL
    assert wanted("images/sub").url == f"{URL}/groups/images/sub"
    secrets = {wanted(owner).token for owner in (7, "7", "images", "images/sub")}
    assert len(secrets) == 4
