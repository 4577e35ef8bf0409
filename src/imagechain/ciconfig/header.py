"""The header of a CI configuration: which inputs a pipeline may be given (`spec:inputs`).

Source: GitLab's `doc/ci/inputs`. A pipeline that is given an input which is not declared there is refused.
"""

from collections.abc import Mapping

from imagechain.ciconfig.document import load_header

_KEYWORD = b"spec"


def read_declared_inputs(data: bytes, file: str = ".gitlab-ci.yml") -> frozenset[str]:
    """Name the inputs that a configuration declares; none where it has no header.

    Raises:
        CiConfigError: it is no YAML, or exceeds a bound.
    """
    # Most files have no header, and a scan of thousands of them need not read each twice.
    header = load_header(data, file) if _KEYWORD in data else None
    if header is None:
        return frozenset()
    spec = header.mapping("the header").get("spec")
    if spec is None or spec.value is None:
        return frozenset()
    inputs = spec.mapping("`spec`").get("inputs")
    if inputs is None or not isinstance(inputs.value, Mapping):
        return frozenset()
    return frozenset(inputs.value)
