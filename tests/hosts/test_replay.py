"""How a create command is edited: every trap that was measured, and that edits are idempotent."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hosts.fake import GRAMMAR
from imagechain.hosts.command_line import CommandLineError, Option, parse, read_help
from imagechain.hosts.replay import NotReplayableError, Replay, replay
from imagechain.hosts.values import Container, Image, decode_containers, decode_images

_VOLUME = "a" * 64


def container(*command: str, **more: Any) -> Container:
    config = {"CreateCommand": list(command), **more.pop("config", {})}
    document = {
        "Id": "1" * 64,
        "Name": "web",
        "Image": "2" * 64,
        "ImageName": "r.example/app:1",
        "Config": config,
    }
    return decode_containers(json.dumps([{**document, **more}]).encode())[0]


def image(**config: Any) -> Image:
    return decode_images(json.dumps([{"Id": "2" * 64, "Config": config}]).encode())[0]


def made(*command: str, of: Image | None = None, names: dict[str, str] | None = None, **more: Any) -> Replay:
    return replay(container(*command, **more), of or image(), GRAMMAR, names=names)


_HEAD = ("create", "--name=web", "--pull=never")


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("podman run app", "r.example/app:1"),
        ("docker run -d --name old app cmd -x", "r.example/app:1 cmd -x"),
        ("podman --log-level debug run app", "r.example/app:1"),
        ("podman --url unix:/x --remote container run app", "r.example/app:1"),
        ("podman run -dit app", "--interactive --tty r.example/app:1"),
        ("podman run -dp 80:80 app", "--publish=80:80 r.example/app:1"),
        ("podman run -eA=b -e=C=d app", "--env=A=b --env=C=d r.example/app:1"),
        ("podman run --replace --pull always --rm app", "--rm r.example/app:1"),
        ("podman run --pod new:p --name x app", "--pod=p r.example/app:1"),
        ("podman run --net host app", "--network=host r.example/app:1"),
        ("podman run --rm=false -a stdout app", "--rm=false r.example/app:1"),
        ("podman run --sig-proxy=false --detach-keys a app", "r.example/app:1"),
        ("podman create -- app", "r.example/app:1"),
        ("podman create --authfile /a --tls-verify=false app -d", "r.example/app:1 -d"),
    ],
)
def test_a_command_is_made_ready_for_create(command: str, expected: str) -> None:
    words = made(*command.split()).argv
    start = words.index("create")
    assert words[start : start + 3] == _HEAD
    assert words[start + 3 :] == tuple(expected.split())


def test_options_of_podman_itself_stay_but_for_those_that_say_which_podman() -> None:
    argv = made("podman", "--runtime=crun", "-c", "far", "--cgroup-manager", "cgroupfs", "run", "app").argv
    assert argv[:4] == ("--runtime=crun", "--cgroup-manager", "cgroupfs", "create")


@pytest.mark.parametrize(
    ("command", "why"),
    [
        ("podman start web", "neither run nor create"),
        ("podman run", "names no image"),
        ("podman run --unheard-of app", "--unheard-of"),
        ("podman run --preserve-fds 1 app", "--preserve-fds"),
        ("podman run -Z app", "-Z"),
        ("podman run --name", "ends after --name"),
        ("podman run --rootfs /somewhere", "--rootfs"),
        ("podman run --cidfile id app", "relative path"),
        ("podman run --security-opt seccomp=./s.json app", "relative path"),
        ("podman run -v ./x:/y app", "relative folder"),
        ("podman run --mount type=bind,src=./x,dst=/y app", "relative folder"),
    ],
)
def test_what_cannot_be_made_anew_faithfully_is_refused(command: str, why: str) -> None:
    with pytest.raises(NotReplayableError, match=why):
        made(*command.split())


def test_without_a_command_there_is_nothing_to_replay() -> None:
    with pytest.raises(NotReplayableError, match="podman's API"):
        made()


def test_the_command_of_podmans_service_is_none() -> None:
    with pytest.raises(NotReplayableError, match="podman's API"):
        made("/usr/bin/podman", "--log-level", "info", "system", "service", "--time=0")


def test_values_of_variables_that_the_command_does_not_tell_stay_out_of_it() -> None:
    done = made(
        *["podman", "run", "--env-file", "rel", "--env", "TAKEN", "--env", "B=c", "-e", "PRE*", "app"],
        config={
            "Env": ["TAKEN=s3cret", "B=c", "FROM_FILE=x y", "PRE_A=1", "PATH=/own", "OF=image", "HOSTNAME=h"]
        },
        of=image(Env=["OF=image", "PATH=/bin"]),
    )
    assert done.environment == {"TAKEN": "s3cret", "FROM_FILE": "x y", "PRE_A": "1"}
    options = [word for word in done.argv if word.startswith("--env")]
    assert sorted(options) == [
        "--env=B=c",
        "--env=FROM_FILE",
        "--env=PATH=/own",
        "--env=PRE_A",
        "--env=TAKEN",
    ]


def test_a_proxy_that_podman_took_from_a_person_is_kept() -> None:
    done = made("podman", "run", "app", config={"Env": ["https_proxy=http://u:p@h", "TERM=xterm"]})
    assert done.environment == {"https_proxy": "http://u:p@h"}


def test_labels_of_a_file_are_written_out_and_those_of_the_image_are_not() -> None:
    done = made(
        *["podman", "run", "--label-file", "rel", "--label", "a=b", "app"],
        config={"Labels": {"a": "b", "from": "file", "of": "image"}},
        of=image(Labels={"of": "image"}),
    )
    assert [word for word in done.argv if "label" in word] == ["--label=a=b", "--label=from=file"]


def test_volumes_without_a_name_keep_their_data() -> None:
    mounts = [
        {"Type": "volume", "Name": _VOLUME, "Source": "/v", "Destination": "/x"},
        {"Type": "volume", "Name": "b" * 64, "Source": "/v", "Destination": "/of-image"},
        {"Type": "volume", "Name": "c" * 64, "Source": "/v", "Destination": "/mounted"},
        {"Type": "bind", "Source": "/home/p/d", "Destination": "/d"},
        {"Type": "volume", "Name": "named", "Source": "/v", "Destination": "/n"},
    ]
    command = "podman run -v /x -v ./d:/d:ro -v named:/n --mount type=volume,dst=/mounted app"
    words = made(*command.split(), Mounts=mounts).argv
    assert [word for word in words if word.startswith(("--volume", "--mount"))] == [
        f"--volume={_VOLUME}:/x",
        "--volume=/home/p/d:/d:ro",
        "--volume=named:/n",
        f"--mount=type=volume,dst=/mounted,source={'c' * 64}",
        f"--volume={'b' * 64}:/of-image",
    ]


@pytest.mark.parametrize("given", ["-P", "-p 80", "-p 127.0.0.1::80", "-p 0:80"])
def test_ports_that_podman_chose_stay(given: str) -> None:
    bindings = {"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": "33709"}], "53/udp": None}
    words = made(*f"podman run {given} app".split(), HostConfig={"PortBindings": bindings}).argv
    assert "--publish=127.0.0.1:33709:80/tcp" in words
    assert len([word for word in words if word.startswith("--publish=")]) == 1


@pytest.mark.parametrize("given", ["80:80", "127.0.0.1:80:80/udp", "8000-8010:8000-8010", "[::1]:80:80"])
def test_ports_that_a_person_chose_stay_as_they_are_written(given: str) -> None:
    assert f"--publish={given}" in made("podman", "run", "-p", given, "app").argv


def test_other_containers_are_named_by_their_names() -> None:
    db = "d" * 64
    command = f"podman run --requires {db},cache --network container:{db[:12]} --volumes-from {db}:ro app"
    words = made(*command.split(), names={db: "db"}).argv
    assert words[3:6] == ("--requires=db,cache", "--network=container:db", "--volumes-from=db:ro")


def test_the_help_of_podman_tells_which_options_take_a_value() -> None:
    text = (
        "Options:\n"
        "      --add-host strings     Add a custom mapping\n"
        "  -e, --env stringArray      Set variables\n"
        "      --help                 \n"
        "  -m, --memory <number>[<unit>]   Limit\n"
        "      --name string          Name\n"
        "      --rm                   Remove (and --replace) it\n"
    )
    grammar = read_help(text)
    assert grammar.valued == {
        "add-host": True,
        "env": True,
        "help": False,
        "memory": True,
        "name": True,
        "rm": False,
    }
    assert grammar.short == {"e": "env", "m": "memory"}
    with pytest.raises(CommandLineError, match="lists no options"):
        read_help("Usage: something else")


_names = st.sampled_from(
    sorted(GRAMMAR.valued.keys() - {"rootfs", "cidfile", "pidfile", "conmon-pidfile", "pod"})
)
_values = st.text("abc=:/,.-_ ", max_size=8).map(lambda text: text.replace("./", "/")).map(str.strip)


@st.composite
def commands(draw: st.DrawFn) -> list[str]:
    words = ["podman", draw(st.sampled_from(["run", "create"]))]
    for name in draw(st.lists(_names, max_size=6)):
        if GRAMMAR.valued[name]:
            value = draw(_values)
            words += [f"--{name}={value}"] if draw(st.booleans()) else [f"--{name}", value]
        else:
            words.append(f"--{name}")
    return [*words, "app", *draw(st.lists(st.text("ab-", min_size=1), max_size=2))]


@given(commands())
def test_editing_an_edited_command_changes_nothing(words: list[str]) -> None:
    try:
        first = made(*words)
    except NotReplayableError:
        return
    assert made("podman", *first.argv).argv == first.argv


@given(commands())
def test_a_command_that_is_put_together_again_reads_the_same(words: list[str]) -> None:
    line = parse(words, GRAMMAR)
    assert parse(("podman", *line.argv()), GRAMMAR) == line


def test_a_boolean_option_never_takes_the_next_word() -> None:
    line = parse(["podman", "run", "--read-only", "app", "--read-only"], GRAMMAR)
    assert (line.options, line.image, line.arguments) == ((Option("read-only"),), "app", ("--read-only",))
