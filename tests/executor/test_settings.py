from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagechain.executor import settings
from imagechain.executor.errors import SystemFailureError
from imagechain.executor.settings import Limits, SettingsFile


def _load(tmp_path: Path, text: str) -> SettingsFile:
    path = tmp_path / "executor.toml"
    path.write_text(text)
    return settings.load(str(path))


def test_sizes_times_and_tables_are_read(tmp_path: Path) -> None:
    base = _load(
        tmp_path,
        'state_dir = "/s"\nservices_timeout = "2m"\n[limits]\nmemory = "512MiB"\ncpus = 1\npids = 7\n'
        '[cache]\nsize_max = "1TiB"\nage_max = "1d"\n',
    ).base
    assert base.state_dir == "/s"
    assert base.services_timeout_seconds == 120
    assert base.limits == Limits(cpus=1.0, memory_bytes=512 << 20, pids=7)
    assert (base.cache_bytes_max, base.cache_age_seconds_max) == (1 << 40, 86400)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('imge = "x"', "did you mean 'image'?"),
        ('[limits]\nmemry = "1GiB"', "did you mean 'memory'?"),
        ('[[override]]\nprojects = ["a"]\nprivilegd = true', "override 1: unknown setting 'privilegd'"),
        ('[limits]\nmemory = "1 gigabyte"', "must be a size"),
        ('pull_policy = ["sometimes"]', "must be a list of always"),
        ("pull_policy = []", "must be a list of always"),
        ('image = "dir:/etc"', "must be the name of an image"),
        ('privileged = "yes"', "must be true or false"),
        ('state_dir = "here"', "must be an absolute path"),
        ('userns = "host"', "must be one of"),
        ("[[override]]\nread_only = true", "needs projects or images"),
        ("override = 3", "must be tables"),
        ("= 1", "is not TOML"),
        ("image = 'a\0b'", "is not TOML"),
        ("services_max = -1", "must be a number"),
        ('extra_args = ["--name=x"]', "'--name=x' is none; the options are blkio-weight"),
        ('extra_args = ["--cpuset-cpus", "0"]', "'--cpuset-cpus' is none"),
        ('extra_args = ["--pid=host"]', "'--pid=host' is none"),
        ('service_extra_args = ["--volume=/:/host"]', "such as"),
    ],
)
def test_a_wrong_setting_is_a_system_failure_that_says_what_to_mend(
    tmp_path: Path, text: str, said: str
) -> None:
    with pytest.raises(SystemFailureError, match=r"executor\.toml") as caught:
        _load(tmp_path, text)
    assert said in str(caught.value)


def test_a_missing_file_is_a_system_failure_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(SystemFailureError, match=r"nowhere\.toml.*install"):
        settings.load(str(tmp_path / "nowhere.toml"))


def test_later_overrides_win_and_each_applies_to_its_own_projects_and_images(tmp_path: Path) -> None:
    file = _load(
        tmp_path,
        'image = "default"\nuser = "a"\n'
        '[[override]]\nprojects = ["group/**"]\nread_only = true\nuser = "b"\n'
        '[[override]]\nprojects = ["group/*"]\nimages = ["docker.io/library/alpine"]\nuser = "c"\n'
        '[[override]]\nimages = ["default"]\nno_new_privileges = true\n',
    )
    assert file.for_job("other/app", "debian").user == "a"
    assert file.for_job("group/app", "debian").user == "b"
    assert file.for_job("group/app", "alpine:3").user == "c"
    assert file.for_job("group/deep/app", "alpine:3").user == "b"
    assert file.for_job("group/app", "alpine:3").read_only
    assert file.for_job("x", "").no_new_privileges  # the settings' own image, for a job without one
    assert not file.for_job("x", "debian").no_new_privileges


def test_every_setting_of_a_job_can_be_overridden_and_is_a_field(tmp_path: Path) -> None:
    fields = set(settings.Settings._fields)
    assert {field for field, _ in settings._FOR_JOBS.values()} | {
        "state_dir",
        "cache_bytes_max",
        "cache_age_seconds_max",
    } == fields
    assert {field for field, _ in settings._LIMITS.values()} == set(Limits._fields)


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.floats(allow_nan=False),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)


@given(table=st.dictionaries(st.sampled_from([*settings._FOR_JOBS, "cache", "override", "x"]), _VALUES))
def test_any_value_gives_settings_or_a_wrong_value_never_another_error(table: dict[str, object]) -> None:
    try:
        file = settings._read_file(table)
    except settings.WrongValueError:
        return
    assert file.base.state_dir
