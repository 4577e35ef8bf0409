"""A podman of the tests' own, all of it in one folder, and images made of the host's busybox."""

import json
import os
import shutil
import subprocess
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path

_APPLETS = [
    "sh",
    "sleep",
    "cat",
    "ls",
    "echo",
    "env",
    "id",
    "hostname",
    "nc",
    "true",
    "false",
    "mkdir",
    "touch",
    "chmod",
    "grep",
    "ps",
    "kill",
    "tr",
    "printf",
    "test",
    "head",
    "dd",
    "nslookup",
    "stat",
    "wc",
    "rm",
    "sed",
    "seq",
    "ln",
    "setsid",
    "nohup",
    "wget",
    "readlink",
    "tail",
    "cut",
    "sort",
    "date",
    "yes",
    "timeout",
]


def limits_processes() -> bool:
    """Whether the kernel lets control groups limit processes, memory and the like here."""
    groups = Path("/sys/fs/cgroup")
    unified = groups / "cgroup.controllers"
    return "pids" in unified.read_text().split() if unified.exists() else (groups / "pids").is_dir()


class Machine:
    """One user's podman."""

    def __init__(self, folder: Path, *, uid: int = 0) -> None:
        self.folder = folder
        self.uid = uid
        self.images: dict[str, str] = {}
        for name in ("home", "xdg", "networks", "tmp", "state"):
            (folder / name).mkdir(parents=True)
        (folder / "xdg").chmod(0o700)
        self.registries = folder / "registries.conf"
        self.registries.write_text("unqualified-search-registries = []\n")
        (folder / "containers.conf").write_text(
            "[containers]\n"
            'default_ulimits = ["nofile=1024:1024", "nproc=4096:4096"]\n'
            f"{'' if limits_processes() else 'pids_limit = 0'}\n"
            "[engine]\n"
            'runtime = "runc"\ncgroup_manager = "cgroupfs"\nevents_logger = "file"\n'
            # Root's usual locks are shared by all stores of the machine; a user's are not.
            f'lock_type = "{"shm" if uid else "file"}"\n'
            f'tmp_dir = "{folder}/tmp"\n'
            f'[network]\nnetwork_config_dir = "{folder}/networks"\n'
        )
        # Without root the kernel's overlay may be forbidden; vfs always works.
        driver = "vfs" if uid else "overlay"
        (folder / "storage.conf").write_text(
            f'[storage]\ndriver = "{driver}"\ngraphroot = "{folder}/graph"\nrunroot = "{folder}/run"\n'
        )
        if uid:
            for path in [folder, *folder.rglob("*")]:
                os.chown(path, uid, uid)

    @property
    def environment(self) -> dict[str, str]:
        """The environment of the runner's service on this machine."""
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": f"{self.folder}/home",
            "CONTAINERS_CONF": f"{self.folder}/containers.conf",
            "CONTAINERS_STORAGE_CONF": f"{self.folder}/storage.conf",
            "CONTAINERS_REGISTRIES_CONF": str(self.registries),
        }
        return environment | ({"XDG_RUNTIME_DIR": f"{self.folder}/xdg"} if self.uid else {})

    def as_user(self, argv: Sequence[str]) -> list[str]:
        """Return the command that runs a program as this machine's user."""
        if not self.uid:
            return list(argv)
        return ["setpriv", f"--reuid={self.uid}", f"--regid={self.uid}", "--clear-groups", *argv]

    def podman(self, *arguments: str, check: bool = True) -> str:
        """Run podman and return what it printed."""
        done = subprocess.run(
            self.as_user(["podman", *arguments]),
            env=self.environment,
            cwd="/",
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert not check or done.returncode == 0, f"podman {arguments}: {done.stderr}"
        return done.stdout

    def listing(self, *arguments: str) -> list[dict[str, object]]:
        """Return what podman lists."""
        listed = json.loads(self.podman(*arguments, "--format=json") or "[]")
        return list(listed or [])

    def make_image(
        self,
        name: str,
        *,
        files: Mapping[str, str] = {},
        changes: Sequence[str] = (),
        shell: bool = True,
        platform: str = "",
    ) -> str:
        """Make an image of busybox and some files."""
        root = self.folder / "roots" / name.replace("/", "_")
        shutil.rmtree(root, ignore_errors=True)
        for folder in ("bin", "etc", "tmp", "root"):
            (root / folder).mkdir(parents=True, exist_ok=True)
        (root / "tmp").chmod(0o1777)
        busybox = shutil.which("busybox")
        assert busybox
        if shell:
            shutil.copy(busybox, root / "bin/busybox")
            for applet in _APPLETS:
                (root / "bin" / applet).symlink_to("busybox")
        (root / "etc/passwd").write_text(
            "root:x:0:0:root:/root:/bin/sh\nsomebody:x:1000:1000::/tmp:/bin/sh\n"
        )
        for path, text in files.items():
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_text(text)
            (root / path).chmod(0o755)
        archive = root.with_suffix(".tar")
        with tarfile.open(archive, "w") as tar:
            tar.add(root, ".")
        archive.chmod(0o644)
        change_options = [f"--change={change}" for change in changes]
        platform_options = [f"--arch={platform}"] if platform else []
        self.podman("import", "--quiet", *change_options, *platform_options, str(archive), name)
        return name

    def remove(self) -> None:
        """End and remove everything."""
        self.podman("rm", "--all", "--force", "--time=0", check=False)
        for network in self.listing("network", "ls"):
            if network["name"] != "podman":
                self.podman("network", "rm", "--force", str(network["name"]), check=False)
        shutil.rmtree(self.folder, ignore_errors=True)
