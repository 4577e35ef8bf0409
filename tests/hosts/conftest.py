import shutil
import ssl
from collections.abc import Iterator

import pytest
import stamina

from executor.conftest import needs_root_and_podman
from hosts.machines import HostMachine


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Ask registries again at once, and read the machine's certificates once: nobody here needs them."""
    monkeypatch.setattr(ssl, "create_default_context", lambda **_: _CONTEXT)
    with stamina.set_testing(True, attempts=1, cap=True):
        yield


_CONTEXT = ssl.create_default_context()


def needs_a_real_host() -> None:
    needs_root_and_podman()
    if shutil.which("docker-registry") is None:
        pytest.skip("docker-registry is not installed (Debian: docker-registry)")


@pytest.fixture(scope="session")
def host_machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HostMachine]:
    needs_a_real_host()
    machine = HostMachine(tmp_path_factory.mktemp("hosts") / "host")
    yield machine
    machine.remove()


@pytest.fixture
def real(host_machine: HostMachine) -> Iterator[HostMachine]:
    """A host with real podman and nothing on it."""
    yield host_machine
    host_machine.forget()
