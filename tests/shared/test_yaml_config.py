"""Config files: strict, and every mistake in one sentence."""

from pathlib import Path

import pytest
from pydantic import Field

from cloister_shared.errors import ConfigError
from cloister_shared.frozen import Frozen
from cloister_shared.yaml_config import load_yaml


class Inner(Frozen):
    rate: float = Field(default=0.5, gt=0)


class Outer(Frozen):
    name: str
    sizes: tuple[int, ...] = ()
    inner: Inner = Inner()


def load(folder: Path, text: str) -> Outer:
    path = folder / "config.yaml"
    path.write_text(text, encoding="utf-8")
    return load_yaml(path, Outer)


def test_a_file_becomes_a_validated_document(tmp_path: Path) -> None:
    text = "name: ä # comment\nsizes: [1, 2]\ninner: {rate: 1e-3}\n"
    assert load(tmp_path, text) == Outer(name="ä", sizes=(1, 2), inner=Inner(rate=0.001))


def test_all_mistakes_are_named_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, "sizes: [1, x]\ninner: {rate: -1, speed: 3}\n")
    message = str(caught.value)
    for place in ("name: Field required", "sizes.1:", "inner.rate:", "inner.speed:"):
        assert place in message
    assert "\n" not in message


def test_a_key_that_stands_twice_is_refused_at_any_depth(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"the key 'rate' stands twice.*line 4"):
        load(tmp_path, "name: a\ninner:\n  rate: 1\n  rate: 2\n")


@pytest.mark.parametrize(
    ("text", "found"), [("", "nothing"), ("- a\n", "a list"), ("hello", "a str")]
)
def test_a_file_without_names_is_refused(tmp_path: Path, text: str, found: str) -> None:
    with pytest.raises(ConfigError, match=f"must hold 'name: value' lines, found {found}"):
        load(tmp_path, text)


@pytest.mark.parametrize("text", ["name: [", "name: \t'a", "name: !!python/name:os.system\n"])
def test_what_is_not_safe_yaml_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError, match="is not YAML"):
        load(tmp_path, text)


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_bytes(b"name: \xff\xfe\x00")
    with pytest.raises(ConfigError, match="is not YAML"):
        load_yaml(path, Outer)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot read .*none\.yaml: No such file"):
        load_yaml(tmp_path / "none.yaml", Outer)
