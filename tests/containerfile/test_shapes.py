"""Files in the shape that known families of images have."""

from imagechain.containerfile import read_containerfile


def pulled(text: str, **build_args: str) -> set[str]:
    containerfile = read_containerfile(text, build_args=build_args)
    return {d.image for d in containerfile.dependencies if d.needed and d.image is not None}


NOTEBOOK = """\
# Copyright (c) Some Team.
ARG REGISTRY=quay.io
ARG OWNER=jupyter
ARG BASE_IMAGE=$REGISTRY/$OWNER/minimal-notebook
FROM $BASE_IMAGE

LABEL maintainer="Some Team <team@example.com>"
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
USER root
RUN apt-get update --yes && \\
    # what we need
    apt-get install --yes --no-install-recommends \\
    curl && \\

    rm -rf /var/lib/apt/lists/*
USER ${NB_UID}
"""


def test_notebooks_chain_by_three_arguments() -> None:
    assert pulled(NOTEBOOK) == {"quay.io/jupyter/minimal-notebook:latest"}
    assert pulled(NOTEBOOK, REGISTRY="localhost:5000") == {"localhost:5000/jupyter/minimal-notebook:latest"}
    assert pulled(NOTEBOOK, BASE_IMAGE="x/y:1") == {"docker.io/x/y:1"}
    assert read_containerfile(NOTEBOOK).arguments_used == {"REGISTRY", "OWNER", "BASE_IMAGE"}


def test_a_root_image_may_be_a_stage_named_by_an_argument() -> None:
    text = "ARG ROOT_IMAGE=default_root\nFROM ubuntu:24.04 AS default_root\nRUN x\nFROM $ROOT_IMAGE\nRUN y\n"
    assert pulled(text) == {"docker.io/library/ubuntu:24.04"}
    assert pulled(text, ROOT_IMAGE="nvidia/cuda:12") == {"docker.io/nvidia/cuda:12"}


def test_a_runtime_image_by_repository_and_version() -> None:
    text = """\
ARG REPO=mcr.example.com/dotnet/runtime-deps
FROM amd64/buildpack-deps:bookworm-curl AS installer
ENV DOTNET_VERSION=8.0.11
RUN curl -o dotnet.tar.gz https://example.com/$DOTNET_VERSION/dotnet.tar.gz
FROM $REPO:8.0-bookworm-slim-amd64
COPY --from=installer ["/dotnet", "/usr/share/dotnet"]
"""
    assert pulled(text) == {
        "docker.io/amd64/buildpack-deps:bookworm-curl",
        "mcr.example.com/dotnet/runtime-deps:8.0-bookworm-slim-amd64",
    }


def test_a_windows_image_with_backticks() -> None:
    text = (
        "# escape=`\r\nARG REPO=mcr.example.com/windows/servercore\r\nFROM $REPO:ltsc2022 AS installer\r\n"
        'SHELL ["powershell", "-Command"]\r\nRUN Invoke-WebRequest `\r\n  -OutFile C:\\x.zip; `\r\n'
        "  Expand-Archive C:\\\r\n"
        "FROM mcr.example.com/windows/nanoserver:ltsc2022\r\nCOPY --from=installer C:\\app C:\\app\\\r\n"
        'WORKDIR C:\\app\\\r\nENTRYPOINT ["C:\\\\app\\\\x.exe"]\r\n'
    )
    assert pulled(text) == {
        "mcr.example.com/windows/servercore:ltsc2022",
        "mcr.example.com/windows/nanoserver:ltsc2022",
    }


def test_a_rendered_image_of_a_big_tree() -> None:
    text = """\
FROM openstack.example/base:2025.1
LABEL maintainer="Someone" name="nova-base" build-date="20261121"
RUN usermod --append --home /var/lib/nova --groups kolla nova \\
    && mkdir -p /var/lib/nova && chown -R 42436:42436 /var/lib/nova
ADD nova-base-archive /nova-base-source
RUN ln -s nova-base-source/* nova
COPY extend_start.sh /usr/local/bin/extend_start
"""
    assert pulled(text) == {"openstack.example/base:2025.1"}
    assert read_containerfile(text).context_sources == ("nova-base-archive", "extend_start.sh")


def test_a_language_image_with_heredocs_and_tools_of_others() -> None:
    text = """\
# syntax=docker/dockerfile:1
FROM --platform=$BUILDPLATFORM tonistiigi/xx:1.5 AS xx
FROM --platform=$BUILDPLATFORM golang:1.23-alpine AS build
COPY --from=xx / /
ARG TARGETPLATFORM
RUN --mount=type=cache,target=/root/.cache --mount=type=bind,target=. <<EOT
  set -e
  FROM=x xx-go build -o /out/app .
EOT
FROM build AS test
RUN go test ./...
FROM scratch AS artifact
COPY --from=build /out/app /
FROM gcr.io/distroless/static@sha256:cc226ca14d17d01d4b278d9489da930a0dd11150df10ae95829d13e6d00fbdbf
COPY --link --from=artifact /app /app
COPY --from=ghcr.io/astral-sh/uv:0.5 /uv /bin/
ENTRYPOINT ["/app"]
"""
    assert pulled(text) == {
        "docker.io/tonistiigi/xx:1.5",
        "docker.io/library/golang:1.23-alpine",
        "gcr.io/distroless/static@sha256:cc226ca14d17d01d4b278d9489da930a0dd11150df10ae95829d13e6d00fbdbf",
        "ghcr.io/astral-sh/uv:0.5",
    }
