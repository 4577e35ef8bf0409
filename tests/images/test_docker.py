"""docker is tested against a program that keeps images in a file and refuses what docker does not know."""

import asyncio
from pathlib import Path

import pytest

from imagechain.images import Base, BuilderError, BuildFailedError, BuildRequest, ImageFacts, RegistryAccess
from imagechain.images.docker import DockerLike

#: `build` puts an image with its labels into the file; `image ls`, `inspect`, `rm` and `push` use it.
DOCKER = r"""#!/usr/bin/env python3
import hashlib, json, os, pathlib, sys
store = pathlib.Path(os.environ["DOCKER_STORE"])
images = json.loads(store.read_text()) if store.exists() else {}
command, *rest = sys.argv[1:]
if command == "image":
    command, *rest = rest
if command == "build":
    assert sys.stdin.read() == "", "nothing is asked"
    flags = [word for word in rest[:-1] if word.startswith("--")]
    known = ("--label=", "--build-arg=", "--tag=", "--iidfile", "--file")
    assert all(flag.startswith(known) for flag in flags), flags
    text = pathlib.Path(rest[rest.index("--file") + 1]).read_text()
    print("STEP", text)
    if "fail" in text:
        sys.exit(7)
    given = [flag.removeprefix("--label=") for flag in flags if flag.startswith("--label=")]
    labels = dict(label.split("=", 1) for label in given)
    image_id = "sha256:" + hashlib.sha256(repr((text, labels)).encode()).hexdigest()
    tags = [flag.removeprefix("--tag=") for flag in flags if flag.startswith("--tag=")]
    for image in images.values():
        image["tags"] = [tag for tag in image["tags"] if tag not in tags]
    images[image_id] = {"tags": tags, "labels": labels}
    pathlib.Path(rest[rest.index("--iidfile") + 1]).write_text(image_id)
elif command == "ls":
    assert rest[:2] == ["--no-trunc", "--digests"]
    for image_id, image in images.items():
        for tag in image["tags"] or ["<none>:<none>"]:
            repository, _, name = tag.rpartition(":")
            print(image_id, f"{repository}:{name}", "<none>", sep="\t")
elif command == "inspect":
    if rest[0] not in {image_id.removeprefix("sha256:") for image_id in images}:
        sys.exit("no such image")
    image = images["sha256:" + rest[0]]
    print(json.dumps([{
        "Id": "sha256:" + rest[0], "Architecture": "amd64", "Os": "linux",
        "Config": {"Labels": image["labels"], "Env": None, "OnBuild": ["RUN x"]},
        "RootFS": {"Type": "layers", "Layers": ["sha256:1"]},
    }]))
elif command == "push":
    print("latest: digest: sha256:" + "d" * 64 + " size: 1234")
elif command == "rm":
    for image_id in rest:
        images.pop("sha256:" + image_id, None)
store.write_text(json.dumps(images))
"""


@pytest.fixture
def docker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DockerLike:
    program = tmp_path / "bin" / "docker"
    program.parent.mkdir()
    program.write_text(DOCKER)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin", prepend=":")
    monkeypatch.setenv("DOCKER_STORE", str(tmp_path / "store.json"))
    return DockerLike("docker")


def request(folder: Path, text: str, *names: str) -> BuildRequest:
    containerfile = folder / "Containerfile"
    containerfile.write_text(text)
    facts = ImageFacts(id="b", content="b", labels={}, diff_ids=("sha256:1",))
    return BuildRequest(
        names=names,
        containerfile=containerfile,
        context=folder,
        ignore_file=None,
        build_args={"A": "a b"},
        pins={"x": "y"},
        labels={"own": "a=b c"},
        bases=(Base(name="docker.io/library/x:latest", digest=None, facts=facts),),
        created=1,
        docker_format=False,
        work=folder,
    )


def test_docker_builds_lists_reads_pushes_and_removes(docker: DockerLike, tmp_path: Path) -> None:
    said: list[bytes] = []
    facts = asyncio.run(docker.build(request(tmp_path, "FROM x\n", "alpine:3", "localhost/a:1"), said.append))
    assert facts.labels["own"] == "a=b c"
    assert facts.labels["org.opencontainers.image.base.name"] == "docker.io/library/x:latest"
    assert facts.docker_only
    assert said
    listing = asyncio.run(docker.list_images())
    assert listing.by_name.keys() == {"docker.io/library/alpine:3", "localhost/a:1"}
    assert {image.id for image in listing.by_name.values()} == {facts.id}
    assert asyncio.run(docker.push("0" * 64, "alpine:3", tmp_path)) == "sha256:" + "d" * 64
    asyncio.run(docker.remove([facts.id]))
    assert asyncio.run(docker.list_images()).images == ()


def test_a_replaced_image_is_listed_without_a_name(docker: DockerLike, tmp_path: Path) -> None:
    said: list[bytes] = []
    for text in ("FROM x\n", "FROM y\n"):
        asyncio.run(docker.build(request(tmp_path, text, "localhost/a:1"), said.append))
    assert sorted(len(image.names) for image in asyncio.run(docker.list_images()).images) == [0, 1]


def test_a_failed_build_and_a_missing_image_are_errors(docker: DockerLike, tmp_path: Path) -> None:
    said: list[bytes] = []
    with pytest.raises(BuildFailedError, match="docker ended with exit code 7"):
        asyncio.run(docker.build(request(tmp_path, "fail\n", "localhost/a:1"), said.append))
    with pytest.raises(BuilderError, match="no such image"):
        asyncio.run(docker.read_image("0" * 64))


def test_what_its_user_has_set_up_is_found_beside_the_logins_of_the_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual, own = tmp_path / "usual", tmp_path / "own"
    for folder in (usual / "cli-plugins", usual / "contexts", own):
        folder.mkdir(parents=True)
    (own / "config.json").write_text("{}")
    monkeypatch.setenv("DOCKER_CONFIG", str(usual))
    asyncio.run(DockerLike("buildx", RegistryAccess(own / "config.json")).prepare(tmp_path))
    links = {path.name: path.resolve() for path in own.iterdir() if path.is_symlink()}
    assert links == {name: usual / name for name in ("cli-plugins", "contexts")}
