"""A node's home: made once, refused when a part is missing, never made anew in silence."""

import os
from pathlib import Path

import pytest
import yaml

from cloister_client.config import NodeConfig
from cloister_client.histories import Interaction
from cloister_client.home import NodeHome
from cloister_shared.curriculum import Curriculum
from cloister_shared.errors import CloisterError, ConfigError, LedgerError
from cloister_shared.privacy import Budget, Policy

SECRETS = ("pseudonym.key", "role.key", "signing.key", "api.token")


@pytest.fixture
def home(tmp_path: Path, node_config: NodeConfig, curriculum: Curriculum) -> NodeHome:
    return NodeHome.create(tmp_path / "node", node_config, curriculum)


def test_a_home_opens_as_it_was_made(home: NodeHome) -> None:
    assert NodeHome.open(home.path) == home


def test_secrets_are_for_their_owner_alone(home: NodeHome) -> None:
    modes = [path.stat().st_mode & 0o777 for path in (home.path, home.path / "keys")]
    files = [(home.path / "keys" / name).stat().st_mode & 0o777 for name in SECRETS]
    assert (modes, files) == ([0o700] * 2, [0o600] * 4)


def test_each_home_has_secrets_of_its_own(
    home: NodeHome, tmp_path: Path, node_config: NodeConfig, curriculum: Curriculum
) -> None:
    other = NodeHome.create(tmp_path / "other", node_config, curriculum)
    assert other.api_token() != home.api_token()
    assert other.signing_key().public != home.signing_key().public
    with home.store() as store, other.store() as other_store:
        assert store.pseudonym("ada") != other_store.pseudonym("ada")


def test_the_store_keeps_what_it_was_given(home: NodeHome) -> None:
    with home.store() as store:
        store.append("ada", Interaction("ada", "i0", True, 1.0, "k"))
    with NodeHome.open(home.path).store() as store:
        assert store.counts().interactions == 1


def test_an_institution_may_keep_its_store_elsewhere(
    tmp_path: Path, node_config: NodeConfig, curriculum: Curriculum
) -> None:
    url = f"sqlite:///{tmp_path / 'elsewhere.sqlite'}"
    config = node_config.model_copy(update={"store_url": url})
    NodeHome.create(tmp_path / "node", config, curriculum).store().close()
    assert (tmp_path / "elsewhere.sqlite").exists()


@pytest.mark.parametrize("simulation", [False, True])
def test_the_ledger_has_the_policys_budget_and_enforces_it(
    tmp_path: Path, curriculum: Curriculum, simulation: bool
) -> None:
    policy = Policy(budget=Budget(epsilon=2, delta=1e-5), allow_without_guarantee=simulation)
    config = NodeConfig(name="a", simulation=simulation, declared_size=50, policy=policy)
    header = NodeHome.create(tmp_path / "node", config, curriculum).ledger().header
    assert (header.budget, header.enforced) == (policy.budget, True)


def test_nothing_is_overwritten(
    tmp_path: Path, node_config: NodeConfig, curriculum: Curriculum
) -> None:
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(ConfigError, match="is not empty"):
        NodeHome.create(tmp_path, node_config, curriculum)
    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]


def test_an_occupied_folder_is_refused_before_its_permissions_change(
    tmp_path: Path, node_config: NodeConfig, curriculum: Curriculum
) -> None:
    folder = tmp_path / "shared"
    folder.mkdir()
    folder.chmod(0o755)
    (folder / "letter.txt").write_text("dear")
    with pytest.raises(ConfigError, match="is not empty"):
        NodeHome.create(folder, node_config, curriculum)
    assert folder.stat().st_mode & 0o777 == 0o755


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("sqlite+nodriver:///x", "store_url cannot be used"),
        ("sqlite:////nowhere/at/all.sqlite", "cannot open the store"),
    ],
)
def test_a_home_that_cannot_be_finished_leaves_nothing(
    tmp_path: Path,
    node_config: NodeConfig,
    curriculum: Curriculum,
    url: str,
    told: str,
) -> None:
    broken = node_config.model_copy(update={"store_url": url})
    with pytest.raises(CloisterError, match=told):
        NodeHome.create(tmp_path / "node", broken, curriculum)
    assert list(tmp_path.iterdir()) == []
    NodeHome.create(tmp_path / "node", node_config, curriculum)


def test_what_a_killed_process_left_of_a_home_is_made_anew(
    tmp_path: Path, node_config: NodeConfig, curriculum: Curriculum
) -> None:
    left = tmp_path / ".node.unfinished" / "keys"
    left.mkdir(parents=True)
    (left / "role.key").write_bytes(b"half")
    home = NodeHome.create(tmp_path / "node", node_config, curriculum)
    assert NodeHome.open(home.path) == home
    assert [path.name for path in tmp_path.iterdir()] == ["node"]


def test_an_empty_folder_becomes_a_whole_home_and_stays_the_same_folder(
    tmp_path: Path,
    node_config: NodeConfig,
    curriculum: Curriculum,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "node").mkdir()
    monkeypatch.chdir(tmp_path / "node")
    NodeHome.create(Path("."), node_config, curriculum)
    made = {path.name for path in Path(".").iterdir()}
    assert made == {"node.yaml", "curriculum.json", "keys", "ledger.sqlite", "store.sqlite"}
    assert Path(".").stat().st_mode & 0o777 == 0o700
    assert [path.name for path in tmp_path.iterdir()] == ["node"]
    NodeHome.open(Path("."))


def test_a_home_cannot_be_made_where_a_file_is(
    tmp_path: Path, node_config: NodeConfig, curriculum: Curriculum
) -> None:
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(ConfigError, match="cannot make a node in"):
        NodeHome.create(tmp_path / "letter.txt", node_config, curriculum)


def test_a_missing_ledger_is_never_made_anew(home: NodeHome) -> None:
    (home.path / "ledger.sqlite").unlink()
    for open_part in (lambda: NodeHome.open(home.path), home.ledger):
        with pytest.raises(LedgerError, match="missing; restore it from a backup"):
            open_part()
    assert not (home.path / "ledger.sqlite").exists()


@pytest.mark.parametrize("part", ["node.yaml", "curriculum.json", *(f"keys/{n}" for n in SECRETS)])
def test_a_missing_part_is_named(home: NodeHome, part: str) -> None:
    (home.path / part).unlink()
    with pytest.raises(ConfigError, match=part):
        NodeHome.open(home.path)


def test_keys_that_others_can_read_are_refused(home: NodeHome) -> None:
    os.chmod(home.path / "keys" / "role.key", 0o640)
    with pytest.raises(ConfigError, match=r"role\.key is open to other users.*chmod 600"):
        NodeHome.open(home.path)


def test_a_signing_key_that_was_cut_off_is_named(home: NodeHome) -> None:
    (home.path / "keys" / "signing.key").write_bytes(b"half of it")
    with pytest.raises(ConfigError, match=r"signing\.key is not a key of 32 bytes"):
        NodeHome.open(home.path)


def test_the_budget_cannot_be_raised_afterwards(home: NodeHome) -> None:
    document = yaml.safe_load((home.path / "node.yaml").read_text())
    document["policy"]["budget"]["epsilon"] = 8.0
    (home.path / "node.yaml").write_text(yaml.safe_dump(document))
    with pytest.raises(ConfigError, match=r"says epsilon 8 .* made for 4 .* fixed for ever"):
        NodeHome.open(home.path)


def test_a_cohort_that_learners_belong_to_cannot_be_removed(
    tmp_path: Path, node_config: NodeConfig, curriculum: Curriculum
) -> None:
    config = node_config.model_copy(update={"cohorts": ("2024", "2025")})
    home = NodeHome.create(tmp_path / "node", config, curriculum)
    with home.store() as store:
        store.import_interactions([Interaction("ada", "i0", True, 1.0, "k")], "2024")
    document = yaml.safe_load((home.path / "node.yaml").read_text())
    document["cohorts"] = ["2025"]
    (home.path / "node.yaml").write_text(yaml.safe_dump(document))
    with pytest.raises(ConfigError, match=r"no longer has the cohort 2024, .* add it again"):
        NodeHome.open(home.path).store()
