"""The policy: which rules an image has to keep, what each says of it, and what excuses it. Pure."""

from collections.abc import Sequence
from datetime import UTC, datetime

import msgspec

from imagechain.config import VettingExceptionSettings, VettingPolicySettings, VettingSettings
from imagechain.config.vetting import POLICY_DEFAULT
from imagechain.discovery.globs import compile_glob
from imagechain.refs import Reference
from imagechain.vetting.distribution import Distribution, Support, is_over
from imagechain.vetting.judge import Limits
from imagechain.vetting.packages import Lagging
from imagechain.vetting.values import DAY_SECONDS, Finding, Outcome, Verdict

_PACKAGES_SHOWN_MAX = 5


class Examined(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of one image besides its history; None: it could not be found out."""

    base: str = ""
    distribution: Distribution | None = None
    support: Support | None = None
    #: Packages behind their archive; None: not compared, `packages_problem` says why.
    packages: tuple[Lagging, ...] | None = None
    packages_problem: str = ""
    #: Why its layers could not be read; empty: they could, or had not to be.
    layers_problem: str = ""
    #: Kinds of signatures and attestations.
    signatures: tuple[str, ...] | None = None


def policy_for(settings: VettingSettings, reference: Reference) -> tuple[str, VettingPolicySettings]:
    """Find the policy of an image, with its name."""
    name = next((match.policy for match in settings.match if matches(match.image, reference)), POLICY_DEFAULT)
    return name, settings.policies.get(name, VettingPolicySettings())


def matches(glob: str, reference: Reference) -> bool:
    """Tell whether a glob names an image: by its name, with or without its tag."""
    pattern = compile_glob(glob)
    return any(pattern.fullmatch(text) for text in (reference.name, reference.identity, str(reference)))


def limits_of(policy: VettingPolicySettings) -> Limits:
    """Give the limits that the verdict needs."""
    return Limits(
        age_max_seconds=policy.age_max,
        rebuild_lag_max_seconds=policy.rebuild_lag_max,
        observed_min_seconds=policy.observed_min,
    )


def evaluate(
    policy: VettingPolicySettings,
    reference: Reference,
    verdict: Verdict,
    examined: Examined,
    *,
    exceptions: Sequence[VettingExceptionSettings],
    now: float,
) -> tuple[Finding, ...]:
    """Hold an image against a policy: a finding for each rule that applies, exceptions already counted."""
    findings = [_verdict(verdict), _age(policy, verdict), _rebuild_lag(policy, verdict)]
    if policy.supported:
        findings.append(_supported(examined, now))
    if policy.bases:
        findings.append(_bases(policy, examined))
    if policy.security_updates_max >= 0:
        findings.append(_security_updates(policy, examined))
    if policy.signed:
        findings.append(_signed(examined))
    return tuple(_excuse(finding, reference, exceptions, now) for finding in findings)


def is_met(policy: VettingPolicySettings, findings: Sequence[Finding]) -> bool:
    """Tell whether a policy is met: `enforce` wants each rule passed, or excused by an exception."""
    return policy.mode != "enforce" or all(
        finding.outcome == "pass" or finding.excused for finding in findings
    )


def _verdict(verdict: Verdict) -> Finding:
    outcome: Outcome = "pass"
    if verdict.judgement in {"stale", "frozen"}:
        outcome = "violated"
    elif verdict.judgement == "unknown":
        outcome = "unknown"
    return Finding(rule="verdict", outcome=outcome, message=f"{verdict.judgement}: {verdict.evidence[0]}")


def _age(policy: VettingPolicySettings, verdict: Verdict) -> Finding:
    age = verdict.age
    days = f"{age.seconds / DAY_SECONDS:.0f} days"
    too_old = age.seconds > policy.age_max
    limit = f"allowed are {policy.age_max / DAY_SECONDS:.0f}"
    if age.clock is None and not too_old:
        return Finding(
            rule="age_max", outcome="unknown", message=f"at least {days} old; no clock tells more ({limit})"
        )
    if too_old and not age.is_proven:
        message = f"{days} old, but only by {age.clock}, which its publisher sets ({limit})"
        return Finding(rule="age_max", outcome="unknown", message=message)
    by = age.clock or "our own looks"
    return Finding(
        rule="age_max", outcome="violated" if too_old else "pass", message=f"{days} old by {by} ({limit})"
    )


def _rebuild_lag(policy: VettingPolicySettings, verdict: Verdict) -> Finding:
    rule, limit = "rebuild_lag_max", f"allowed are {policy.rebuild_lag_max / DAY_SECONDS:.0f} days"
    late = [lag for lag in verdict.rebuild_lags if lag > policy.rebuild_lag_max]
    if verdict.judgement == "stale" and verdict.base_moved_at is not None:
        return Finding(rule=rule, outcome="violated", message=f"{verdict.evidence[0]} ({limit})")
    if late:
        message = f"it followed its base after up to {max(late) / DAY_SECONDS:.0f} days ({limit})"
        return Finding(rule=rule, outcome="violated", message=message)
    if not verdict.rebuild_lags:
        # Nothing to follow was seen; the verdict says what is known without it.
        return Finding(rule=rule, outcome="pass", message="no move of its base was seen")
    longest = max(verdict.rebuild_lags)
    return Finding(
        rule=rule, outcome="pass", message=f"at most {longest / 3_600:.0f} hours behind its base ({limit})"
    )


def _supported(examined: Examined, now: float) -> Finding:
    found, support = examined.distribution, examined.support
    if found is None:
        why = f": {examined.layers_problem}" if examined.layers_problem else ""
        return Finding(
            rule="supported", outcome="unknown", message=f"it is not known which distribution it holds{why}"
        )
    if support is None:
        message = f"the end of life of {found} is not known; add it to vet.releases_file"
        return Finding(rule="supported", outcome="unknown", message=message)
    if is_over(support, now):
        return Finding(
            rule="supported", outcome="violated", message=f"{found} has had no support since {support.end}"
        )
    return Finding(rule="supported", outcome="pass", message=f"{found} is supported until {support.end}")


def _bases(policy: VettingPolicySettings, examined: Examined) -> Finding:
    if not examined.base:
        return Finding(rule="bases", outcome="unknown", message="it is not known what it is built from")
    allowed = any(compile_glob(glob).fullmatch(examined.base) for glob in policy.bases)
    return Finding(
        rule="bases",
        outcome="pass" if allowed else "violated",
        message=f"it is built from {examined.base}" + ("" if allowed else ", which no glob of bases allows"),
    )


def _security_updates(policy: VettingPolicySettings, examined: Examined) -> Finding:
    rule = "security_updates_max"
    if examined.packages is None:
        return Finding(rule=rule, outcome="unknown", message=f"packages: {examined.packages_problem}")
    missing = [package for package in examined.packages if package.is_security]
    shown = ", ".join(f"{package.name} {package.available}" for package in missing[:_PACKAGES_SHOWN_MAX])
    more = f" and {len(missing) - _PACKAGES_SHOWN_MAX} more" if len(missing) > _PACKAGES_SHOWN_MAX else ""
    return Finding(
        rule=rule,
        outcome="violated" if len(missing) > policy.security_updates_max else "pass",
        message=f"{len(missing)} security updates are missing" + (f": {shown}{more}" if missing else ""),
    )


def _signed(examined: Examined) -> Finding:
    if examined.signatures is None:
        return Finding(rule="signed", outcome="unknown", message="signatures could not be looked for")
    if not examined.signatures:
        return Finding(rule="signed", outcome="violated", message="no signature and no attestation is there")
    return Finding(rule="signed", outcome="pass", message=f"there are {', '.join(examined.signatures)}")


def _excuse(
    finding: Finding, reference: Reference, exceptions: Sequence[VettingExceptionSettings], now: float
) -> Finding:
    """Excuse a finding by the first exception that is still in force; the day it names is the last one."""
    if finding.outcome == "pass":
        return finding
    today = datetime.fromtimestamp(now, UTC).date()
    for exception in exceptions:
        if (
            exception.rule == finding.rule
            and matches(exception.image, reference)
            and today <= exception.until
        ):
            excused = f"{exception.reason} (until {exception.until})"
            return msgspec.structs.replace(finding, excused=excused)
    return finding
