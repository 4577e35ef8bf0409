from pathlib import Path

import pytest

from imagechain.images import FactsCache, ImageFacts, facts_cache
from imagechain.images.builder import InputRecord


def facts(name: str) -> ImageFacts:
    return ImageFacts(
        id=name, content=f"c-{name}", labels={"a": "b"}, diff_ids=("1", "2"), on_build=("RUN x",)
    )


def test_what_was_put_is_there_in_the_next_run(tmp_path: Path) -> None:
    file = tmp_path / "new" / "images.json"
    cache = FactsCache(file)
    cache.put(facts("a"))
    cache.save()
    assert FactsCache(file).get("a") == facts("a")
    assert FactsCache(file).get("b") is None


@pytest.mark.parametrize("text", ["", "{", "[]", '{"a": {"id": 1}}', "\x00"])
def test_a_broken_file_is_as_good_as_none_and_is_mended(tmp_path: Path, text: str) -> None:
    file = tmp_path / "images.json"
    file.write_text(text)
    cache = FactsCache(file)
    assert cache.get("a") is None
    cache.put(facts("a"))
    cache.save()
    assert FactsCache(file).get("a") is not None


def test_where_it_cannot_be_written_there_is_none(tmp_path: Path) -> None:
    file = tmp_path / "not-a-folder" / "images.json"
    file.parent.write_text("a file")
    cache = FactsCache(file)
    cache.put(facts("a"))
    cache.save()
    assert cache.get("a") == facts("a")


def test_the_least_recently_used_go_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(facts_cache, "IMAGES_MAX", 2)
    cache = FactsCache(tmp_path / "images.json")
    for name in "abc":
        cache.put(facts(name))
    assert cache.get("a") is not None
    cache.save()
    again = FactsCache(tmp_path / "images.json")
    assert [name for name in "abc" if again.get(name)] == ["a", "c"]


@pytest.mark.parametrize("label", ["", "{", '{"a": 1}', '{"a": {"digest": "d"}}', "[]"])
def test_an_unreadable_record_of_inputs_is_no_record(label: str) -> None:
    image = ImageFacts(id="a", content="c", labels={"dev.imagechain.inputs": label}, diff_ids=())
    assert image.inputs is None


def test_a_record_of_inputs_is_read() -> None:
    label = '{"localhost/a:latest": {"digest": "d", "content": "c", "later": 1}}'
    image = ImageFacts(id="a", content="c", labels={"dev.imagechain.inputs": label}, diff_ids=())
    assert image.inputs == {"localhost/a:latest": InputRecord("d", "c")}
