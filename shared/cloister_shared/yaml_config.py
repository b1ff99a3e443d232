"""Config files: strict YAML into a validated document, or one sentence with every mistake."""

from collections.abc import Hashable
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import ValidationError

from cloister_shared.errors import ConfigError
from cloister_shared.frozen import Frozen, describe

Document = TypeVar("Document", bound=Frozen)


def load_yaml(path: Path, model_type: type[Document]) -> Document:
    """The document in the YAML file ``path``; raises ``ConfigError`` with all its mistakes."""
    try:
        return model_type.model_validate(_mapping(path))
    except ValidationError as error:
        raise ConfigError(f"{path}: {describe(error)}") from error


def _mapping(path: Path) -> dict[Any, Any]:
    try:
        document = _StrictLoader(path.read_bytes()).get_single_data()
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(document, dict):
        raise ConfigError(f"{path} must hold 'name: value' lines, found {_kind(document)}")
    return document


def _kind(document: object) -> str:
    return "nothing" if document is None else f"a {type(document).__name__}"


class _StrictLoader(yaml.SafeLoader):
    """Safe YAML in which a key that stands twice is an error, not the last one's silent win."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        """A dict of the node's keys and values."""
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = key_node.value if isinstance(key_node, yaml.ScalarNode) else None
            if key is not None and key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key!r} stands twice", key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep)
