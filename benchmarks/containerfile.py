"""How fast Containerfiles are read, beside BuildKit's own Go parser and a naive regular expression.

Run with `python benchmarks/containerfile.py [--files 2000]`. The files are made from a seed, in the shapes
and shares that real ones have. The baselines do less: `dockerfile` (BuildKit's parser in Go, as a wheel) only
parses, and the regular expression only finds FROM. All run in the same process, one after the other, several
times; the best time of each counts.
"""

import argparse
import random
import re
import time
from collections.abc import Callable, Sequence

import dockerfile

from imagechain.containerfile import read_containerfile

SEED = 20_260_101
REPEATS = 5
FILES_PER_SECOND_MIN = 2_000

_NAIVE_FROM = re.compile(r"^FROM\s+(?:--\S+\s+)*(\S+)", re.IGNORECASE | re.MULTILINE)
_PACKAGES = (
    "curl",
    "git",
    "make",
    "gcc",
    "libxml2",
    "ca-certificates",
    "tzdata",
    "locales",
    "jq",
    "less",
    "nano",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=2_000)
    files = make_files(parser.parse_args().files)
    lines = sum(file.count("\n") for file in files)
    print(f"{len(files)} files, {lines / len(files):.0f} lines each on average")

    whole = best_seconds(read_containerfile, files)
    go = best_seconds(dockerfile.parse_string, files)
    naive = best_seconds(_NAIVE_FROM.findall, files)
    for name, seconds in (
        ("imagechain, all of it", whole),
        ("dockerfile (Go), parsing only", go),
        ("regex", naive),
    ):
        print(f"{name:32} {len(files) / seconds:10,.0f} files/s   {seconds / whole:6.2f} x its time")
    assert len(files) / whole >= FILES_PER_SECOND_MIN, f"slower than {FILES_PER_SECOND_MIN} files/s"


def best_seconds(read: Callable[[str], object], files: Sequence[str]) -> float:
    seconds = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        for file in files:
            read(file)
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def make_files(count: int) -> list[str]:
    rng = random.Random(SEED)
    return [make_file(rng) for _ in range(count)]


def make_file(rng: random.Random) -> str:
    """Make a file; its parts are as frequent as in 1,581 real ones (39 % with a variable in FROM, ...)."""
    base = rng.choice(
        ("debian:bookworm-slim", "quay.io/org/base:1.2", "python:3.12", "registry.example.com/a/b")
    )
    parts = [
        "# syntax=docker/dockerfile:1\n" if rng.random() < 0.1 else "",
        "#\n# Made for a benchmark.\n#\n",
    ]
    if rng.random() < 0.4:
        parts.append("ARG REGISTRY=quay.io\nARG OWNER=org\nARG BASE_IMAGE=$REGISTRY/$OWNER/base\nARG TAG=2\n")
        base = rng.choice(("$BASE_IMAGE", "${BASE_IMAGE}:${TAG}", "${BASE_IMAGE}:${TAG:-latest}"))
    if rng.random() < 0.5:
        parts.append(make_build_stage(rng))
        parts.append(f"FROM {base}\nCOPY --from=build /out/app /usr/local/bin/app\n")
        parts.append("COPY --from=ghcr.io/astral-sh/uv:0.5 /uv /bin/\n" if rng.random() < 0.05 else "")
    else:
        parts.append(f"FROM {base}\n")
    parts.append('LABEL maintainer="Some One <some@example.com>" \\\n      org.example.title="app"\n\n')
    parts += (make_install(rng) for _ in range(rng.randint(1, 3)))
    parts.append(f'ENV APP_VERSION={rng.randint(1, 9)}.0 \\\n    PATH="/opt/app/bin:$PATH"\n')
    parts.append("RUN <<EOF\nset -e\necho FROM nothing\nEOF\n" if rng.random() < 0.085 else "")
    parts.append("# what runs\nCOPY --chown=app:app entrypoint.sh /usr/local/bin/\nWORKDIR /app\nUSER app\n")
    parts.append("EXPOSE 8080\nHEALTHCHECK --interval=30s CMD curl -f http://localhost:8080/ || exit 1\n")
    parts.append('ENTRYPOINT ["entrypoint.sh"]\n')
    return "".join(parts)


def make_build_stage(rng: random.Random) -> str:
    platform = "--platform=$BUILDPLATFORM " if rng.random() < 0.1 else ""
    mount = "--mount=type=cache,target=/root/.cache " if rng.random() < 0.2 else ""
    return (
        f"FROM {platform}golang:1.{rng.randint(20, 25)} AS build\nWORKDIR /src\nCOPY go.mod go.sum ./\n"
        f"RUN {mount}go mod download\nCOPY . .\nRUN {mount}go build -o /out/app ./cmd/app\n\n"
    )


def make_install(rng: random.Random) -> str:
    packages = "".join(f"        {package} \\\n" for package in rng.sample(_PACKAGES, rng.randint(3, 10)))
    return (
        f"RUN set -eux; \\\n    apt-get update; \\\n    apt-get install -y --no-install-recommends \\\n"
        f"# packages\n{packages}    ; \\\n    rm -rf /var/lib/apt/lists/*\n\n"
    )


if __name__ == "__main__":
    main()
