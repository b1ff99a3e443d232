"""Fingerprints tell keys apart, however they are read out."""

import pytest

from cloister_shared.errors import PolicyError
from cloister_shared.fingerprints import require_fingerprint

TRUE = "0a1b 2c3d 4e5f 6071 8293 a4b5 c6d7 e8f9"


@pytest.mark.parametrize(
    "given", [TRUE, TRUE.upper(), TRUE.replace(" ", ""), TRUE.replace(" ", "-"), f" {TRUE} "]
)
def test_blanks_hyphens_and_case_do_not_count(given: str) -> None:
    require_fingerprint(given, TRUE, "oak")


@pytest.mark.parametrize("given", ["", TRUE[:-1], TRUE + "0", TRUE.replace("f", "e"), "0a1b", "ä"])
def test_anything_else_is_refused(given: str) -> None:
    with pytest.raises(PolicyError, match="is not that of oak: nothing was done") as caught:
        require_fingerprint(given, TRUE, "oak")
    assert caught.value.code == "fingerprint"
