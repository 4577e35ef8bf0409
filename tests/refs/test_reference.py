"""The grammar of image references, against the vectors that the OCI distribution grammar is known by."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagechain.refs import Reference, ReferenceError, parse_reference

SHA = "sha256:" + "f" * 64
SHA512 = "sha512:" + "0" * 128


@pytest.mark.parametrize(
    ("written", "normalised"),
    [
        ("alpine", "docker.io/library/alpine:latest"),
        ("alpine:3", "docker.io/library/alpine:3"),
        ("test.com:tag", "docker.io/library/test.com:tag"),
        ("test.com:5000", "docker.io/library/test.com:5000"),
        ("test.com/repo:tag", "test.com/repo:tag"),
        ("test:5000/repo", "test:5000/repo:latest"),
        ("test:5000/repo:tag", "test:5000/repo:tag"),
        (f"test:5000/repo@{SHA}", f"test:5000/repo@{SHA}"),
        (f"test:5000/repo:tag@{SHA}", f"test:5000/repo:tag@{SHA}"),
        (f"x@{SHA512}", f"docker.io/library/x@{SHA512}"),
        ("lowercase:Uppercase", "docker.io/library/lowercase:Uppercase"),
        ("library/alpine", "docker.io/library/alpine:latest"),
        ("docker.io/alpine", "docker.io/library/alpine:latest"),
        ("docker.io/library/alpine", "docker.io/library/alpine:latest"),
        ("index.docker.io/alpine", "docker.io/library/alpine:latest"),
        ("index.docker.io/org/x:1", "docker.io/org/x:1"),
        ("org/repo", "docker.io/org/repo:latest"),
        ("a/b/c/d", "docker.io/a/b/c/d:latest"),
        ("localhost/base", "localhost/base:latest"),
        ("localhost", "docker.io/library/localhost:latest"),
        ("localhost:5000/a/b", "localhost:5000/a/b:latest"),
        ("127.0.0.1:5000/a", "127.0.0.1:5000/a:latest"),
        ("[::1]/a", "[::1]/a:latest"),
        ("[2001:db8::1]:5000/a:1", "[2001:db8::1]:5000/a:1"),
        ("Foo/bar", "Foo/bar:latest"),
        ("UPPER.example.com/a", "UPPER.example.com/a:latest"),
        ("openstack.kolla/base", "openstack.kolla/base:latest"),
        ("a-b--c/d__e/f.g_h", "docker.io/a-b--c/d__e/f.g_h:latest"),
        ("xn--n3h.com/repo", "xn--n3h.com/repo:latest"),
        ("foo/foo_bar.com:8080", "docker.io/foo/foo_bar.com:8080"),
        ("a:" + "t" * 128, "docker.io/library/a:" + "t" * 128),
        ("a:_x-y.z", "docker.io/library/a:_x-y.z"),
    ],
)
def test_a_written_reference_has_one_normal_form(written: str, normalised: str) -> None:
    assert str(parse_reference(written)) == normalised


@pytest.mark.parametrize(
    ("written", "says"),
    [
        ("", "empty"),
        (":tag", "invalid reference format"),
        ("@" + SHA, "invalid reference format"),
        ("repo@sha256:" + "f" * 34, "64 lower-case"),
        ("repo@sha256:" + "F" * 64, "64 lower-case"),
        ("validname@invaliddigest:" + "f" * 128, "unsupported digest algorithm"),
        ("Uppercase:tag", "lower-case"),
        ("test:5000/Uppercase/lowercase:tag", "lower-case"),
        ("a" * 64, "image id"),
        ("a/" * 128 + "a:tag", "longer than 255"),
        ("aa/asdf$$^/aa", "invalid reference format"),
        ("-foo/bar", "invalid reference format"),
        ("foo/bar-/baz", "invalid reference format"),
        ("foo/_bar", "invalid reference format"),
        ("foo..bar", "invalid reference format"),
        ("foo___bar", "invalid reference format"),
        ("a//b", "invalid reference format"),
        ("a/b/", "invalid reference format"),
        ("/a", "invalid reference format"),
        ("a:", "invalid reference format"),
        ("a:-tag", "invalid reference format"),
        ("a:" + "t" * 129, "invalid reference format"),
        ("a b", "invalid reference format"),
        (" a", "invalid reference format"),
        ("a\n", "invalid reference format"),
        ("https://github.com/docker/docker", "invalid reference format"),
        ("[fe80::1%eth0]:5000/a", "invalid reference format"),
        ("[::1/a", "invalid reference format"),
        ("\N{LATIN SMALL LETTER A WITH ACUTE}/b", "invalid reference format"),
        ("a:\N{ARABIC-INDIC DIGIT ONE}", "invalid reference format"),
    ],
)
def test_what_is_no_reference_is_refused_with_the_reason(written: str, says: str) -> None:
    with pytest.raises(ReferenceError, match=says):
        parse_reference(written)


@pytest.mark.parametrize(
    ("written", "familiar"),
    [
        ("docker.io/library/alpine:latest", "alpine"),
        ("docker.io/library/alpine:3", "alpine:3"),
        ("docker.io/org/x", "org/x"),
        ("quay.io/org/x:latest", "quay.io/org/x"),
        (f"alpine@{SHA}", f"alpine@{SHA}"),
        ("docker.io/library/x/y:1", "library/x/y:1"),
        ("docker.io/0.0_0/0:0", "docker.io/0.0_0/0:0"),
        ("docker.io/test.com/x", "docker.io/test.com/x"),
    ],
)
def test_the_familiar_form_is_what_people_write(written: str, familiar: str) -> None:
    reference = parse_reference(written)
    assert reference.familiar == familiar
    assert parse_reference(reference.familiar) == reference


def test_a_digest_does_not_change_which_image_of_the_graph_is_meant() -> None:
    pinned = parse_reference(f"quay.io/org/base:1@{SHA}")
    assert pinned.identity == parse_reference("quay.io/org/base:1").identity == "quay.io/org/base:1"
    assert pinned.name == "quay.io/org/base"
    assert parse_reference(f"quay.io/org/base@{SHA}").identity == f"quay.io/org/base@{SHA}"


_component = st.from_regex(r"[a-z0-9]{1,6}((\.|_|__|-{1,3})[a-z0-9]{1,4}){0,2}", fullmatch=True)
_domain = st.sampled_from(
    ["docker.io", "localhost", "localhost:5000", "quay.io", "Registry", "[::1]:5000", "a.b:443"]
)
_tag = st.from_regex(r"\w[\w.-]{0,20}", fullmatch=True).filter(str.isascii)


@st.composite
def references(draw: st.DrawFn) -> Reference:
    """References in normal form, made without the parser."""
    domain = draw(_domain)
    parts = draw(st.lists(_component, min_size=1, max_size=4))
    if domain == "docker.io" and len(parts) == 1:
        parts.insert(0, "library")
    digest = draw(st.none() | st.just(SHA))
    tag = draw(_tag) if digest is None else draw(st.none() | _tag)
    return Reference(domain, "/".join(parts), tag, digest)


@given(references())
def test_printing_and_parsing_a_reference_gives_it_back(reference: Reference) -> None:
    assert parse_reference(str(reference)) == reference
    assert parse_reference(reference.familiar) == reference


@given(st.text(max_size=80) | st.text(alphabet="aA0.:/@-_[]sh256f\n", max_size=80))
def test_any_text_is_a_reference_or_refused(text: str) -> None:
    try:
        reference = parse_reference(text)
    except ReferenceError:
        return
    assert parse_reference(str(reference)) == reference
