"""The flags of an instruction (`--name=value`), as BuildKit checks them (`instructions/bflag.go`)."""

from collections.abc import Mapping

from imagechain.containerfile.lines import Instruction
from imagechain.containerfile.values import ContainerfileError

#: Kinds of flags: one value, several values, true or false.
ONE, MANY, BOOL = "one", "many", "bool"
NO_FLAGS: Mapping[str, str] = {}
_TRUE_OR_FALSE = ("", "true", "false")


def parse_flags(instruction: Instruction, kinds: Mapping[str, str]) -> dict[str, list[str]]:
    """Check the flags of an instruction; of each its values."""
    values: dict[str, list[str]] = {}
    for flag in instruction.flags:
        written, equals, value = flag.partition("=")
        name = written[2:]
        kind = kinds.get(name)
        if kind is None:
            known = (
                f"; {instruction.keyword} knows {', '.join(f'--{kind}' for kind in kinds)}" if kinds else ""
            )
            raise ContainerfileError(f"unknown flag: {written}{known}")
        if name in values and kind != MANY:
            raise ContainerfileError(f"duplicate flag specified: {written}; give it once")
        if not value and (equals if kind == BOOL else not equals):
            raise ContainerfileError(f"missing a value on flag: {written}")
        if kind == BOOL and value.lower() not in _TRUE_OR_FALSE:
            raise ContainerfileError(f"expecting boolean value for flag {written}, not: {value}")
        values.setdefault(name, []).append(value)
    return values
