"""`docs/settings.md` names each setting of the service, with its default."""

import re
import tomllib
from pathlib import Path

import msgspec
import pytest

from imagechain.config import Settings, load_settings

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "settings.md").read_text()
#: Those that other pages tell of, which this one leads to.
ELSEWHERE = {"mirror", "pipeline", "image", "hosts", "registry", "vet"}
DEFAULTS = {
    f"{table}.{field.name}": getattr(getattr(Settings(), table), field.name)
    for table in (one.name for one in msgspec.structs.fields(Settings))
    if table not in {*ELSEWHERE, "state_dir"}
    for field in msgspec.structs.fields(getattr(Settings(), table))
}


def rows() -> dict[str, str]:
    """Give the defaults that the page tells, by setting; empty where it tells none."""
    told = {}
    for section in re.split(r"^## ", PAGE, flags=re.MULTILINE)[1:]:
        tables = re.findall(r"`\[(\w+)\]`", section.partition("\n")[0])
        for key, default in re.findall(r"^\| `([\w.]+)` \| (.*?) ?\|", section, re.MULTILINE):
            told[key if "." in key else f"{tables[0]}.{key}"] = default.strip("`")
    return told


def test_each_setting_of_the_service_is_named_and_none_that_there_is_not() -> None:
    assert rows().keys() == DEFAULTS.keys()
    assert len(DEFAULTS) >= 30


@pytest.mark.parametrize("name", DEFAULTS)
def test_the_default_of_each_setting_is_right(name: str, tmp_path: Path) -> None:
    table, _, key = name.partition(".")
    told = rows()[name]
    if not told:
        # One that `serve` needs has none.
        assert not DEFAULTS[name]
        return
    file = tmp_path / "imagechain.toml"
    file.write_text(f"[{table}]\n{key} = {told}\n")
    assert getattr(getattr(load_settings(file, {}), table), key) == DEFAULTS[name]


def test_the_settings_of_other_parts_are_named_with_their_pages() -> None:
    others = PAGE.partition("## Others")[2]
    named = set(re.findall(r"`\[*(\w+)[^`]*`", others)) & {*ELSEWHERE, "state_dir"}
    assert named == {*ELSEWHERE, "state_dir"}
    assert {one.name for one in msgspec.structs.fields(Settings)} == {
        *ELSEWHERE,
        "state_dir",
        *(name.partition(".")[0] for name in DEFAULTS),
    }


def test_the_variables_and_examples_of_the_page_are_settings(tmp_path: Path) -> None:
    variables = dict(re.findall(r"`(IMAGECHAIN_\w+)='?([^`']*)'?`", PAGE))
    assert len(variables) == 2
    settings = load_settings(None, variables)
    assert settings.policy.builds_max == 4
    assert settings.gitlab.groups == ("images",)
    (windows,) = re.findall(r"names, `(\[.*?\])`", PAGE)
    file = tmp_path / "imagechain.toml"
    file.write_text(f"[policy]\nwindows = {windows}\n")
    assert load_settings(file, {}).policy.windows == tuple(tomllib.loads(f"x = {windows}")["x"])


def test_the_links_of_the_page_lead_somewhere() -> None:
    for page, anchor in re.findall(r"\]\(([\w.-]+\.md)(?:#([\w-]+))?\)", PAGE):
        text = (DOCS / page).read_text()
        titles = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
        anchors = {re.sub(r"[^\w -]", "", title).lower().replace(" ", "-") for title in titles}
        assert not anchor or anchor in anchors, f"{page}#{anchor}"
