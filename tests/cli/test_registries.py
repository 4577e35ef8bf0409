"""What commands ask registries with."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path


def test_what_is_tried_again_leaves_standard_output_to_the_results(tmp_path: Path) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{nobody.getsockname()[1]}"
        file = tmp_path / "imagechain.toml"
        file.write_text(
            f'[[mirror]]\nsource = "{address}/a"\ntarget = "{address}/b"\ntags = ["1"]\n'
            f'[registry."{address}"]\ninsecure = true\n'
        )
        program = [sys.executable, "-c", "from imagechain.cli.main import main; main()"]
        done = subprocess.run(
            [*program, "mirror", "sync", "--format", "json", "--config", str(file)],
            check=False,
            capture_output=True,
            env={**os.environ, "IMAGECHAIN_STATE_DIR": str(tmp_path)},
        )
    assert done.returncode == 3, done.stderr
    assert [each["outcome"] for each in json.loads(done.stdout)["tags"]] == ["unknown"]
