"""What `doctor` finds, and how it is printed."""

from collections.abc import Sequence
from typing import Literal

import msgspec

from imagechain.cli.errors import EXIT_FAILED
from imagechain.cli.output import Format, print_json, print_table


class Finding(msgspec.Struct, frozen=True):
    """One thing that was checked."""

    subject: str
    result: Literal["ok", "warning", "error"]
    text: str
    #: How to mend it; empty if nothing is to be mended, or the text says so itself.
    remedy: str = ""


def print_findings(findings: Sequence[Finding], format: Format) -> int:
    """Print what was found; gives the exit code."""
    if format == "json":
        print_json({"findings": findings})
    else:
        rows = [
            (
                finding.subject,
                finding.result,
                finding.text + (f"; {finding.remedy}" if finding.remedy else ""),
            )
            for finding in findings
        ]
        print_table(("WHAT", "RESULT", "FINDING"), rows)
    return EXIT_FAILED if any(finding.result == "error" for finding in findings) else 0
