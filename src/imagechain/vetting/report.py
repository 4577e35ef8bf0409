"""What was found out, in the forms that other programs read: SARIF, JUnit, Prometheus. Pure.

Sources: SARIF 2.1.0 (OASIS), the JUnit XML that CI systems read, Prometheus' text format (for the textfile
collector of its node exporter).
"""

from collections.abc import Sequence
from xml.etree import ElementTree as ET

import msgspec

from imagechain._version import __version__
from imagechain.vetting.examine import Vetted
from imagechain.vetting.values import Finding

_SARIF_SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
_RULES = {
    "verdict": "The image is continuously built",
    "age_max": "The image is not too old",
    "rebuild_lag_max": "The image follows its base in time",
    "supported": "The distribution inside is supported",
    "bases": "The image is built from an allowed base",
    "security_updates_max": "No security updates are missing",
    "signed": "The image is signed or attested",
    "checked": "The image could be checked",
}


def findings_of(vetted: Vetted) -> tuple[Finding, ...]:
    """Give the findings; what could not be checked is one, too."""
    if vetted.problem:
        return (Finding(rule="checked", outcome="unknown", message=vetted.problem),)
    return vetted.findings


def sarif(results: Sequence[Vetted]) -> bytes:
    """Write SARIF: a result for each finding that is no pass."""
    found = [
        {
            "ruleId": finding.rule,
            "level": _level(vetted, finding),
            "message": {"text": f"{vetted.ref} ({vetted.platform}): {finding.message}"},
            "locations": [
                {"logicalLocations": [{"fullyQualifiedName": vetted.ref, "kind": "resource"}]},
            ],
            "partialFingerprints": {"image/v1": f"{vetted.ref} {vetted.platform} {finding.rule}"},
            **(
                {"suppressions": [{"kind": "external", "justification": finding.excused}]}
                if finding.excused
                else {}
            ),
        }
        for vetted in results
        for finding in findings_of(vetted)
        if finding.outcome != "pass"
    ]
    driver = {
        "name": "imagechain",
        "version": __version__,
        "rules": [{"id": rule, "shortDescription": {"text": text}} for rule, text in _RULES.items()],
    }
    log = {
        "$schema": _SARIF_SCHEMA,
        "version": "2.1.0",
        "runs": [{"tool": {"driver": driver}, "results": found}],
    }
    return msgspec.json.format(msgspec.json.encode(log), indent=2) + b"\n"


def _level(vetted: Vetted, finding: Finding) -> str:
    if vetted.mode == "enforce":
        return "error"
    return "warning" if vetted.mode == "warn" or finding.outcome == "violated" else "note"


def junit(results: Sequence[Vetted]) -> bytes:
    """Write JUnit XML: a suite for each image, a case for each rule."""
    root = ET.Element("testsuites", name="imagechain vet")
    for vetted in results:
        findings = findings_of(vetted)
        failed = [finding for finding in findings if _fails(vetted, finding)]
        suite = ET.SubElement(
            root,
            "testsuite",
            name=f"{vetted.ref} {vetted.platform}",
            tests=str(len(findings)),
            failures=str(len(failed)),
        )
        for finding in findings:
            case = ET.SubElement(suite, "testcase", classname=vetted.ref, name=finding.rule)
            if _fails(vetted, finding):
                ET.SubElement(case, "failure", message=finding.message, type=finding.outcome)
            elif finding.outcome != "pass":
                ET.SubElement(case, "skipped", message=finding.excused or finding.message)
    ET.indent(root)
    text: bytes = ET.tostring(root, encoding="utf-8", xml_declaration=True)
    return text + b"\n"


def _fails(vetted: Vetted, finding: Finding) -> bool:
    return vetted.mode == "enforce" and finding.outcome != "pass" and not finding.excused


def prometheus(results: Sequence[Vetted]) -> bytes:
    """Write metrics in Prometheus' text format, each family once."""
    families: dict[str, tuple[str, list[str]]] = {
        "imagechain_vet_policy_met": ("Whether an image meets its policy.", []),
        "imagechain_vet_image_age_seconds": ("Age of an image, by each clock that is believed.", []),
        "imagechain_vet_rebuild_lag_seconds": ("Time after which an image last followed its base.", []),
        "imagechain_vet_verdict": ("How an image comes to be: 1 for the verdict in the label.", []),
    }
    met, ages, lags, verdicts = (lines for _, lines in families.values())
    for vetted in results:
        labels = f'image="{_escape(vetted.ref)}",platform="{_escape(vetted.platform)}"'
        met.append(f"imagechain_vet_policy_met{{{labels}}} {int(vetted.met and not vetted.problem)}")
        verdict = vetted.verdict
        if verdict is None:
            continue
        verdicts.append(f'imagechain_vet_verdict{{{labels},verdict="{verdict.judgement}"}} 1')
        believed = [reading for reading in verdict.age.readings if not reading.rejected]
        for reading in believed:
            # The first is the one that counts.
            seconds = max(verdict.age.seconds + believed[0].at - reading.at, 0.0)
            ages.append(f'imagechain_vet_image_age_seconds{{{labels},clock="{reading.clock}"}} {seconds:.0f}')
        if verdict.rebuild_lags:
            lags.append(f"imagechain_vet_rebuild_lag_seconds{{{labels}}} {verdict.rebuild_lags[-1]:.0f}")
    text = []
    for name, (help_text, lines) in families.items():
        if lines:
            text += [f"# HELP {name} {help_text}", f"# TYPE {name} gauge", *lines]
    return "".join(f"{line}\n" for line in text).encode()


def _escape(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
