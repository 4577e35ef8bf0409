"""What a pipeline is told that only tries other images: which are read instead of which. Pure.

The variable `IMAGE_TRIAL` holds JSON, `{"reference as written": "reference that is read instead"}`. The test
bot of the service sets it; `tags` sees to it that such a pipeline moves no name that others use.
"""

from collections.abc import Mapping

import msgspec

from imagechain.refs import ReferenceError, parse_reference

TRIAL_VARIABLE = "IMAGE_TRIAL"
_decoder = msgspec.json.Decoder(dict[str, str])


class TrialError(ValueError):
    """The variable is not of its form; the message says how it is written."""


def read_trial(environ: Mapping[str, str]) -> dict[str, str]:
    """Read which images are read instead of which, both normalised; empty: this is no trial.

    Raises:
        TrialError: the variable is not of its form.
    """
    text = environ.get(TRIAL_VARIABLE, "")
    if not text:
        return {}
    try:
        return {
            str(parse_reference(written)): str(parse_reference(used))
            for written, used in _decoder.decode(text).items()
        }
    except (msgspec.DecodeError, ReferenceError) as error:
        raise TrialError(
            f"the variable {TRIAL_VARIABLE} must be JSON that maps references to references: {error}"
        ) from error
