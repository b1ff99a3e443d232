"""Joining a consortium: a home for the kit's node, its keys, one request.

Nothing is made and nothing sent before the kit's fingerprint was compared. Every step may be
repeated: keys that are there are used, and a coordinator answers the same request in the same way.
"""

from pathlib import Path

from cloister_client.config import NodeConfig
from cloister_client.coordinator_link import CoordinatorLink
from cloister_client.home import CONFIG, NodeHome
from cloister_client.transport_key import public_pem
from cloister_shared import __version__
from cloister_shared.errors import ConfigError
from cloister_shared.fingerprints import require_fingerprint
from cloister_shared.kit import JoinAnswer, JoinRequest, Kit, SignedKit, SignedRequest
from cloister_shared.yaml_config import load_yaml


def join(signed: SignedKit, fingerprint: str, folder: Path, config: Path | None) -> JoinAnswer:
    """Ask the kit's coordinator to let the node in ``folder`` take part, and pin what it is.

    The home is made first of the file ``config`` and the kit's curriculum if there is none. Raises
    ``PolicyError`` if the kit has expired, its fingerprint is another, or the coordinator refuses;
    ``ConfigError`` if home and kit do not belong together; ``ServiceError`` without an answer.
    """
    signed.require_in_time()
    require_fingerprint(fingerprint, signed.kit.fingerprint, "the coordinator")
    home = _home(signed.kit, folder, config)
    home.make_transport_key()
    link = CoordinatorLink.of(signed.kit)
    answer = link.ask(_request(signed.kit, home)).answer
    home.pin(link)
    return answer


def _home(kit: Kit, folder: Path, config: Path | None) -> NodeHome:
    if (folder / CONFIG).exists():
        home = NodeHome.open(folder)
        _require_fit(kit, home)
        return home
    if config is None:
        raise ConfigError(
            f"{folder} is no node's home yet: give the node's settings with --config, a file with "
            f"at least 'name: {kit.node}' and 'declared_size: …'"
        )
    settings = load_yaml(config, NodeConfig)
    _require_name(kit, settings, config)
    return NodeHome.create(folder, settings, kit.curriculum)


def _require_fit(kit: Kit, home: NodeHome) -> None:
    _require_name(kit, home.config, home.path / CONFIG)
    if home.curriculum != kit.curriculum:
        raise ConfigError(
            f"the node in {home.path} has another curriculum ({home.curriculum.name} "
            f"v{home.curriculum.version}) than the consortium ({kit.curriculum.name} "
            f"v{kit.curriculum.version}); make a node in a new folder"
        )
    home.require_coordinator(kit.coordinator_key)


def _require_name(kit: Kit, config: NodeConfig, file: Path) -> None:
    if config.name != kit.node:
        raise ConfigError(
            f"the kit is for a node called {kit.node}, {file} says {config.name}; write the kit's "
            "name there, or ask the operator for a kit with yours"
        )


def _request(kit: Kit, home: NodeHome) -> SignedRequest:
    key, transport = home.signing_key(), home.transport_key()
    request = JoinRequest(
        node=kit.node,
        token=kit.token,
        transport_key=public_pem(transport),
        signing_key=key.public,
        declared_size=home.config.declared_size,
        release=__version__,
    )
    return SignedRequest.join(request, key, transport)
