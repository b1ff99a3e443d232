"""The node's store: the only door to learner records, which it keeps under pseudonyms."""

from cloister_client.store.activities import Activity
from cloister_client.store.imports import ImportReport
from cloister_client.store.learners import DEFAULT_COHORT
from cloister_client.store.model_versions import ModelVersion
from cloister_client.store.pseudonyms import Pseudonymizer
from cloister_client.store.store import Counts, Store, StoreRules

__all__ = [
    "DEFAULT_COHORT",
    "Activity",
    "Counts",
    "ImportReport",
    "ModelVersion",
    "Pseudonymizer",
    "Store",
    "StoreRules",
]
