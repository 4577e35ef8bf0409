"""How long the pipeline of a repository with 12 images is: `python benchmarks/image_pipeline.py`.

The same build jobs, of builds that take known times, are run twice, with real builds and a real
registry: in the order that `imagechain image pipeline` writes (`needs:`), and level by level (a stage
for each generation of images), as pipelines without it are written. The first should take as long as the
longest path of builds, the second as long as the sum of the longest build of each level, both with the
cost of each job on top. The jobs are started here by GitLab's rule; gitlab-ci-local starts them in
waves, each when all of the last has ended, so it would not tell the two apart.
"""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

import networkx as nx
import yaml

BUSYBOX = Path("/bin/busybox")
#: Seconds of each build, and what it is built from. Long builds of one branch meet short ones of the other.
IMAGES: dict[str, tuple[int, tuple[str, ...]]] = {
    "base": (1, ()),
    "a1": (1, ("base",)),
    "a2": (20, ("a1",)),
    "a3": (1, ("a2",)),
    "a4": (20, ("a3",)),
    "b1": (20, ("base",)),
    "b2": (1, ("b1",)),
    "b3": (20, ("b2",)),
    "b4": (1, ("b3",)),
    "c": (5, ("base",)),
    "d": (5, ("a2", "c")),
    "top": (1, ("a4", "b4", "d")),
}


@contextmanager
def registry(folder: Path) -> Iterator[str]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{listener.getsockname()[1]}"
    storage = {"filesystem": {"rootdirectory": str(folder / "registry")}}
    config = {"version": 0.1, "storage": storage, "http": {"addr": address}}
    (folder / "registry.yml").write_text(yaml.safe_dump(config))
    with (folder / "registry.log").open("wb") as log:
        argv = ["docker-registry", "serve", str(folder / "registry.yml")]
        with subprocess.Popen(argv, stdout=log, stderr=log) as process:
            try:
                time.sleep(1)
                yield address
            finally:
                process.kill()


def write_repository(top: Path, address: str) -> None:
    for name, (seconds, parents) in IMAGES.items():
        (top / name).mkdir(parents=True)
        images = [f"{address}/group/project/{parent}:latest" for parent in parents]
        start = ["FROM scratch", "COPY busybox /bin/busybox"]
        if parents:
            start = [f"FROM {images[0]}", *(f"COPY --from={image} /made /" for image in images[1:])]
        script = f"/bin/busybox sleep {seconds}; /bin/busybox mkdir -p /made; echo {name} >/made/{name}"
        run = f'RUN ["/bin/busybox", "sh", "-c", "{script}"]'
        (top / name / "Containerfile").write_text("\n".join([*start, run, ""]))
    shutil.copy(BUSYBOX, top / "base" / "busybox")
    for arguments in (
        ("init", "--quiet", "--initial-branch=main"),
        ("remote", "add", "origin", "https://gitlab.example.com/group/project.git"),
        ("add", "--all"),
        ("-c", "user.name=x", "-c", "user.email=x@example.com", "commit", "--quiet", "--message=images"),
    ):
        subprocess.run(["git", *arguments], cwd=top, check=True)


def only_builds(document: Mapping[str, Any]) -> dict[str, Any]:
    kept = {name: job for name, job in document.items() if name.startswith(("build ", "variables"))}
    return {"stages": ["build"], **kept}


def level_by_level(document: Mapping[str, Any]) -> dict[str, Any]:
    """Put each job into the stage of its generation, without `needs`."""
    levels = [sorted(level) for level in nx.topological_generations(graph())]
    leveled: dict[str, Any] = {**document, "stages": [f"level-{number}" for number in range(len(levels))]}
    for number, names in enumerate(levels):
        for name in names:
            job = {key: value for key, value in document[f"build {name}"].items() if key != "needs"}
            leveled[f"build {name}"] = {**job, "stage": f"level-{number}"}
    return leveled


def graph() -> "nx.DiGraph[str]":
    edges: nx.DiGraph[str] = nx.DiGraph()
    edges.add_nodes_from(IMAGES)
    edges.add_edges_from((parent, name) for name, (_, parents) in IMAGES.items() for parent in parents)
    return edges


def run(top: Path, document: Mapping[str, Any], environ: Mapping[str, str]) -> float:
    """Run the jobs as GitLab does with a runner for each: a job starts when what it waits for has ended."""
    stages = document["stages"]
    jobs = {name: job for name, job in document.items() if name.startswith("build ")}

    def before(job: Mapping[str, Any]) -> list[str]:
        stage = stages.index(job["stage"])
        earlier = [name for name in jobs if stages.index(jobs[name]["stage"]) < stage]
        return list(job.get("needs", earlier))

    def execute(name: str) -> str:
        (script,) = jobs[name]["script"]
        given = {**environ, **document["variables"], **jobs[name].get("variables", {})}
        subprocess.run(["sh", "-c", script], cwd=top, env=given, check=True, capture_output=True)
        return name

    waiting = TopologicalSorter({name: before(job) for name, job in jobs.items()})
    waiting.prepare()
    begun = time.perf_counter()
    with ThreadPoolExecutor(max_workers=len(jobs)) as pool:
        running: set[Future[str]] = set()
        while waiting.is_active():
            running |= {pool.submit(execute, name) for name in waiting.get_ready()}
            ended, running = wait(running, return_when=FIRST_COMPLETED)
            waiting.done(*(job.result() for job in ended))
    return time.perf_counter() - begun


def main() -> None:
    if not BUSYBOX.exists():
        sys.exit("there is no static /bin/busybox: run scripts/setup --dev")
    with tempfile.TemporaryDirectory(prefix="imagechain-benchmark-") as name, registry(Path(name)) as address:
        folder = Path(name)
        top = folder / "repository"
        write_repository(top, address)
        (folder / "storage.conf").write_text(
            f'[storage]\ndriver = "overlay"\ngraphroot = "{folder}/graph"\nrunroot = "{folder}/run"\n'
        )
        environ = {
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "BUILDAH_ISOLATION": "chroot",
            "CONTAINERS_STORAGE_CONF": str(folder / "storage.conf"),
            "IMAGECHAIN_REGISTRY": f'{{"{address}" = {{insecure = true}}}}',
            "CI_PIPELINE_ID": "1",
            # All images are built, and built again by the second pipeline.
            "CI_PIPELINE_SOURCE": "schedule",
            "CI_COMMIT_BRANCH": "main",
            "CI_DEFAULT_BRANCH": "main",
            "CI_REGISTRY_IMAGE": f"{address}/group/project",
        }
        argv = ["imagechain", "image", "pipeline", "--output", "child.yml"]
        subprocess.run(argv, cwd=top, env=environ, check=True, capture_output=True)
        document = only_builds(yaml.safe_load((top / "child.yml").read_text()))
        try:
            ordered = run(top, document, environ)
            leveled = run(top, level_by_level(document), environ)
        finally:
            subprocess.run(["umount", "-l", f"{folder}/graph/overlay"], check=False, capture_output=True)
    seconds = {name: float(taken) for name, (taken, _) in IMAGES.items()}
    weighted = graph()
    for parent, child in weighted.edges:
        weighted.edges[parent, child]["weight"] = seconds[child]
    critical = seconds["base"] + nx.dag_longest_path_length(weighted)
    levels = sum(max(seconds[name] for name in level) for level in nx.topological_generations(graph()))
    everything = sum(seconds.values())
    print(
        f"12 images: longest path {critical:.0f} s, sum of levels {levels:.0f} s, of all {everything:.0f} s"
    )
    print(f"as imagechain orders them  {ordered:6.1f} s   (longest path + {ordered - critical:.1f} s)")
    print(f"level by level             {leveled:6.1f} s   (sum of levels + {leveled - levels:.1f} s)")
    print(f"ratio {ordered / leveled:.2f}; of the builds alone it would be {critical / levels:.2f}")


if __name__ == "__main__":
    main()
