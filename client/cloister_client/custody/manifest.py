"""What a backup holds: its parts by name, each with its SHA-256, signed by the node."""

from typing import Literal

from pydantic import Field

from cloister_client.home import (
    API_TOKEN,
    CONFIG,
    COORDINATOR,
    CURRICULUM,
    KEYS,
    LEDGER,
    PSEUDONYM_KEY,
    ROLE_KEY,
    SIGNING_KEY,
    STORE,
    TRANSPORT_KEY,
)
from cloister_shared.canonical import canonical_json
from cloister_shared.frozen import Frozen
from cloister_shared.privacy.ledger_format import SignedHead
from cloister_shared.signing import SigningKey, is_signed

MANIFEST = "manifest.json"
"""The first file of a backup."""
REQUIRED = (
    CONFIG,
    CURRICULUM,
    *(f"{KEYS}/{name}" for name in (PSEUDONYM_KEY, ROLE_KEY, SIGNING_KEY, API_TOKEN)),
    LEDGER,
)
"""What every backup holds, by name within the home."""
OF_A_MEMBER = (COORDINATOR, f"{KEYS}/{TRANSPORT_KEY}")
"""What a backup holds if the node has joined a consortium."""
OPTIONAL = (STORE, *OF_A_MEMBER)
"""The store is left out if learners' records are in a database elsewhere."""


class Manifest(Frozen):
    """Of one backup: whose it is, where the ledger ended, and each part's SHA-256 by name."""

    format: Literal[1] = 1
    node: str
    key: str
    """The node's public key, which signs this."""
    head: SignedHead
    files: dict[str, str] = Field(min_length=len(REQUIRED))
    signature: str = ""

    def signed(self, key: SigningKey) -> "Manifest":
        """This manifest with its signature."""
        return self.model_copy(update={"signature": key.sign(self._content)})

    @property
    def is_authentic(self) -> bool:
        """Whether the node wrote exactly this."""
        return is_signed(self._content, self.signature, self.key)

    @property
    def holds_a_node(self) -> bool:
        """Whether all parts of a home are named, and nothing else is."""
        return set(REQUIRED) <= set(self.files) <= {*REQUIRED, *OPTIONAL}

    @property
    def _content(self) -> bytes:
        fields = self.model_dump(mode="json", exclude={"signature"})
        return canonical_json({"type": "node_backup", **fields})
