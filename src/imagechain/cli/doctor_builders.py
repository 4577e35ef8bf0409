"""What `doctor` says of the programs that build images, and of the architectures that they can build for."""

import asyncio
import re
from collections.abc import Iterator
from pathlib import Path
from platform import machine
from typing import get_args

from imagechain.cli.finding import Finding
from imagechain.images import BuilderError, choose_builder
from imagechain.images.choose import BuilderName

#: Where the kernel lists what runs programs of other architectures (binfmt_misc).
HANDLERS = Path("/proc/sys/fs/binfmt_misc")
_QEMU = re.compile(r"qemu-(?P<architecture>[a-z0-9_]+)")
_INSTALL_QEMU = (
    "for RUN on others, as root of the host: apt-get install qemu-user-static; or give each architecture a "
    "runner of its own"
)


def examine_builders() -> Iterator[Finding]:
    """Tell which builders can be chosen by `image build --builder`."""
    usable, refused = [], []
    for name in get_args(BuilderName):
        try:
            asyncio.run(choose_builder(name))
        except BuilderError as error:
            refused.append(f"not {name}: {str(error).partition(';')[0].splitlines()[0]}")
        else:
            usable.append(name)
    text = "; ".join([f"usable: {', '.join(usable) or 'none'}", *refused])
    yield Finding("builders", "ok" if usable else "error", text)


def examine_architectures(handlers: Path = HANDLERS) -> Finding:
    """Tell for which architectures RUN works here.

    Args:
        handlers: Where the kernel lists its handlers.
    """
    here = machine()
    if not (handlers / "status").exists():
        text = f"RUN works for {here}; whether for others is not known, as {handlers} is not mounted"
        return Finding("architectures", "ok", text, _INSTALL_QEMU)
    found = []
    for file in sorted(handlers.iterdir()):
        match = _QEMU.fullmatch(file.name)
        # Without the flag F the interpreter would have to be inside of the image.
        if match and _is_ready(file.read_text()):
            found.append(match["architecture"])
    if not found:
        return Finding(
            "architectures", "ok", f"RUN works for {here} only: no qemu is registered", _INSTALL_QEMU
        )
    return Finding("architectures", "ok", f"RUN works for {here}, and by qemu for {', '.join(found)}")


def _is_ready(handler: str) -> bool:
    flags = next((line for line in handler.splitlines() if line.startswith("flags:")), "")
    return handler.startswith("enabled") and "F" in flags
