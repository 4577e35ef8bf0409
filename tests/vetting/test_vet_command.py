"""`imagechain vet` against a real registry."""

import contextlib
import gzip
import http.server
import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from prometheus_client.parser import text_string_to_metric_families

from imagechain.cli.main import run
from registry.pictures import Stored, make_image, make_index
from registry.servers import Server
from vetting.archives import layer

OS_RELEASE = {"etc/os-release": "ID=debian\nVERSION_ID=13\nVERSION_CODENAME=trixie\n"}


def debian(number: int = 0, **more: object) -> Stored:
    return make_image(layers=[layer({**OS_RELEASE, "opt/number": str(number)})], **more)  # type: ignore[arg-type]


@pytest.fixture
def settings(tmp_path: Path, open_registry: Server, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "imagechain.toml"
    file.write_text(
        f'state_dir = "{tmp_path / "state"}"\n[registry."{open_registry.address}"]\ninsecure = true\n'
    )
    return file


def days_ago(days: float) -> str:
    return (datetime.now(UTC) - timedelta(days=days)).strftime("%Y-%m-%dT%H:%M:%SZ")


def remember(path: Path, ref: str, seen: list[tuple[float, str]]) -> None:
    lines = [
        {"ref": ref, "platform": "linux/amd64", "digest": digest, "seen_at": days_ago(days)}
        for days, digest in seen
    ]
    with path.open("a") as file:
        file.writelines(json.dumps(line) + "\n" for line in lines)


def vet_json(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, list[dict[str, object]]]:
    code = run(["vet", "--format", "json", *arguments])
    return code, json.loads(capsys.readouterr().out)


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


@contextlib.contextmanager
def archive(files: dict[str, bytes]) -> Iterator[str]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = files.get(self.path)
            self.send_response(404 if body is None else 200)
            self.send_header("Content-Length", str(len(body or b"")))
            self.end_headers()
            self.wfile.write(body or b"")

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


PACKAGES = {
    **OS_RELEASE,
    "var/lib/dpkg/status": (
        "Package: libssl3\nStatus: install ok installed\nArchitecture: amd64\nVersion: 3.0.1-1\n"
    ),
    "etc/apt/sources.list": "deb http://deb.example/debian-security trixie-security main\n",
}


def test_missing_security_updates_are_named(
    settings: Path, open_registry: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    image = make_image(layers=[layer(PACKAGES), layer({"opt/x": "y"})])
    open_registry.push("app", image, "5")
    index = gzip.compress(b"Package: libssl3\nArchitecture: amd64\nVersion: 3.0.1-1+deb13u1\n")
    path = "/debian-security/dists/trixie-security/main/binary-amd64/Packages.gz"
    with archive({path: index}) as url, settings.open("a") as file:
        file.write(f'[vet.archives]\n"http://deb.example" = "{url}"\n')
        file.write("[vet.policies.default]\nsecurity_updates_max = 0\n")
        file.flush()
        code, [found] = vet_json(capsys, f"{open_registry.address}/app:5")
    rules = {finding["rule"]: finding for finding in found["findings"]}  # type: ignore[attr-defined]
    assert code == 1
    assert rules["security_updates_max"]["message"] == (
        "1 security updates are missing: libssl3 3.0.1-1+deb13u1"
    )


def test_an_archive_that_does_not_answer_is_unknown(
    settings: Path, open_registry: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    open_registry.push("app", make_image(layers=[layer(PACKAGES)]), "6")
    with settings.open("a") as file:
        file.write('[vet.archives]\n"http://deb.example" = "http://127.0.0.1:9"\n')
        file.write("[vet.policies.default]\nsecurity_updates_max = 0\n")
    _, [found] = vet_json(capsys, f"{open_registry.address}/app:6")
    rules = {finding["rule"]: finding for finding in found["findings"]}  # type: ignore[attr-defined]
    assert rules["security_updates_max"]["outcome"] == "unknown"


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
    image = debian(11)
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
    assert families["imagechain_vet_image_age_seconds"].samples[0].value == pytest.approx(
        380 * 86_400, abs=60
    )


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
