"""`imagechain vet` against a real registry."""

import json
from datetime import UTC, datetime
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from prometheus_client.parser import text_string_to_metric_families

from disks import fill, small_disk
from imagechain.cli.main import run
from registry.pictures import make_image, make_index
from registry.servers import Server
from vetting.archives import layer
from vetting.vetted import OS_RELEASE, debian, remember, settings, vet_json

__all__ = ["settings"]

BUILT_AT = "2020-02-29T12:00:00+00:00"


def test_a_first_look_is_unknown_and_is_remembered(
    settings: Path, open_registry: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    open_registry.push("app", debian(), "1")
    ref = f"{open_registry.address}/app:1"
    code, [found] = vet_json(capsys, ref)
    assert code == 1
    assert found["verdict"]["judgement"] == "unknown"  # type: ignore[index]
    [line] = (settings.parent / "state/vetting/tags.jsonl").read_text().splitlines()
    assert json.loads(line)["ref"] == ref


def test_a_tag_that_is_known_to_move_meets_the_policy(
    settings: Path, open_registry: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    image = debian()
    open_registry.push("app", image, "2")
    ref, history = f"{open_registry.address}/app:2", settings.parent / "h.jsonl"
    remember(history, ref, [(90, "a"), (70, "b"), (61, "c"), (33, "d"), (5, image.digest)])
    code, [found] = vet_json(capsys, ref, "--history", str(history))
    assert found["verdict"]["judgement"] == "continuous"  # type: ignore[index]
    assert found["distribution"] == "debian 13"
    assert {finding["rule"]: finding["outcome"] for finding in found["findings"]} == {  # type: ignore[attr-defined]
        "verdict": "pass",
        "age_max": "pass",
        "rebuild_lag_max": "pass",
        "supported": "pass",
    }
    assert code == 0


def test_a_base_that_is_named_is_looked_at_and_its_move_must_be_followed(
    settings: Path, open_registry: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    base = debian(1)
    open_registry.push("base", base, "1")
    base_ref = f"{open_registry.address}/base:1"
    app = make_image(
        layers=[layer(OS_RELEASE), layer({"app": "1"})],
        annotations={"org.opencontainers.image.base.name": base_ref},
    )
    open_registry.push("app", make_index({"linux/amd64": app}), "3")
    ref, history = f"{open_registry.address}/app:3", settings.parent / "h.jsonl"
    remember(history, ref, [(40, "a"), (20, app.digest)])
    remember(history, base_ref, [(40, "x"), (11, "x"), (10, base.digest)])
    code, [found] = vet_json(capsys, ref, "--history", str(history))
    assert code == 1
    assert found["base"] == base_ref
    assert found["verdict"]["judgement"] == "stale"  # type: ignore[index]
    rules = {finding["rule"]: finding for finding in found["findings"]}  # type: ignore[attr-defined]
    assert rules["rebuild_lag_max"]["outcome"] == "violated"


def test_an_image_that_was_built_on_the_present_base_waits_for_nothing(
    settings: Path, open_registry: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    base_layer = layer(OS_RELEASE)
    base = make_image(layers=[base_layer])
    open_registry.push("base", base, "2")
    base_ref = f"{open_registry.address}/base:2"
    app = make_image(
        layers=[base_layer, layer({"app": "2"})], labels={"org.opencontainers.image.base.name": base_ref}
    )
    open_registry.push("app", app, "4")
    ref, history = f"{open_registry.address}/app:4", settings.parent / "h.jsonl"
    remember(history, ref, [(40, "a"), (20, app.digest)])
    remember(history, base_ref, [(40, "x"), (11, "x"), (10, base.digest)])
    _, [found] = vet_json(capsys, ref, "--history", str(history))
    assert found["verdict"]["base_moved_at"] is None  # type: ignore[index]


def test_a_registry_that_does_not_answer_is_unknown_and_no_pass(
    settings: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with settings.open("a") as file:
        file.write('[registry."127.0.0.1:9"]\ninsecure = true\n')
    code, [found] = vet_json(capsys, "127.0.0.1:9/app:1")
    assert code == 1
    assert "could not be asked" in str(found["problem"])
    with settings.open("a") as file:
        file.write('[vet.policies.default]\nmode = "warn"\n')
    assert vet_json(capsys, "127.0.0.1:9/app:1")[0] == 0


def test_signatures_are_found_beside_the_image(
    settings: Path, open_registry: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    signed, plain = debian(7), debian(8)
    open_registry.push("app", signed, "signed")
    open_registry.push("app", plain, "plain")
    open_registry.push("app", make_image(layers=[b"signature"]), signed.digest.replace(":", "-") + ".sig")
    with settings.open("a") as file:
        file.write("[vet.policies.default]\nsigned = true\n")
    address = open_registry.address
    _, found = vet_json(capsys, f"{address}/app:signed", f"{address}/app:plain")
    outcomes = [
        finding["outcome"]
        for each in found
        for finding in each["findings"]  # type: ignore[attr-defined]
        if finding["rule"] == "signed"
    ]
    assert outcomes == ["pass", "violated"]


def test_an_exception_excuses_until_its_day(
    settings: Path, open_registry: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    open_registry.push("app", debian(9), "9")
    ref = f"{open_registry.address}/app:9"
    before = settings.read_text()
    rule = '[[vet.exceptions]]\nimage = "{}/*"\nrule = "{}"\nuntil = {}\nreason = "we know"\n'
    for until, code in (("2199-01-01", 0), ("2020-01-01", 1)):
        rules = [rule.format(open_registry.address, name, until) for name in ("verdict", "age_max")]
        settings.write_text(before + "".join(rules))
        assert vet_json(capsys, ref)[0] == code


def test_the_images_of_a_folder_are_vetted(
    settings: Path, open_registry: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    open_registry.push("base", debian(10), "10")
    ref = f"{open_registry.address}/base:10"
    (settings.parent / "app").mkdir()
    (settings.parent / "app/Containerfile").write_text(f"FROM {ref}\nFROM localhost/app\n")
    _, found = vet_json(capsys, "--dir", ".")
    assert [each["ref"] for each in found] == [ref]


def test_every_form_of_output_says_the_same(
    settings: Path, open_registry: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    image = debian(11, created=BUILT_AT)
    open_registry.push("app", image, "11")
    ref, history = f"{open_registry.address}/app:11", settings.parent / "h.jsonl"
    remember(history, ref, [(400, "a"), (380, image.digest)])
    arguments = ["vet", ref, "--history", str(history), "--format"]

    assert run([*arguments, "table"]) == 1
    assert "frozen" in capsys.readouterr().out

    run([*arguments, "sarif"])
    log = json.loads(capsys.readouterr().out)
    assert {result["ruleId"] for result in log["runs"][0]["results"]} == {"verdict", "age_max"}

    run([*arguments, "junit"])
    suites = ET.fromstring(capsys.readouterr().out)  # noqa: S314 - we wrote it
    assert [case.get("name") for case in suites.iter("testcase") if case.find("failure") is not None] == [
        "verdict",
        "age_max",
    ]

    run([*arguments, "prometheus"])
    families = {family.name: family for family in text_string_to_metric_families(capsys.readouterr().out)}
    assert families["imagechain_vet_verdict"].samples[0].labels["verdict"] == "frozen"
    assert families["imagechain_vet_policy_met"].samples[0].value == 0
    ages = {each.labels["clock"]: each.value for each in families["imagechain_vet_image_age_seconds"].samples}
    assert ages["first-seen"] == pytest.approx(380 * 86_400, abs=60)
    built_at = datetime.fromisoformat(BUILT_AT)
    assert ages["config-created"] == pytest.approx((datetime.now(UTC) - built_at).total_seconds(), abs=60)


def test_results_are_told_also_where_no_history_can_be_written(
    settings: Path, open_registry: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    open_registry.push("app", debian(12), "12")
    with small_disk(settings.parent / "state", 16) as disk:
        fill(disk)
        assert run(["vet", f"{open_registry.address}/app:12", "--format", "json"]) == 1
    output = capsys.readouterr()
    assert json.loads(output.out)[0]["verdict"]["judgement"] == "unknown"
    assert "cannot write the history" in output.err
    assert "No space left on device" in output.err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [([], "name images"), (["UPPER/x"], "UPPER"), (["x", "--platform", "a/b/c/d"], "--platform")],
)
def test_wrong_usage_is_told(
    settings: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    assert run(["vet", *arguments]) in {1, 2}
    output = capsys.readouterr()
    assert said in output.err + output.out
