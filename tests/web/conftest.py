from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from imagechain.store import Store, open_store
from imagechain.web import make_app
from store.conftest import postgresql, small_disk
from web.parts import API_TOKEN, HOOK_KEY, NOW, FakeService

__all__ = ["postgresql", "small_disk"]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = open_store(f"sqlite:///{tmp_path}/imagechain.db")
    yield store
    store.close()


@pytest.fixture
def service() -> FakeService:
    return FakeService()


@pytest.fixture
def client(store: Store, service: FakeService) -> Iterator[TestClient]:
    app = make_app(
        store, service, hook_key=HOOK_KEY, api_token=API_TOKEN, now=lambda: NOW, machine_now=lambda: NOW
    )
    with TestClient(app) as client:
        yield client
