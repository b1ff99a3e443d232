"""Describe (events), price (accounting), keep (ledger format); and the one source of noise."""

from cloister_shared.privacy.accounting import epsilon, rounds_that_fit
from cloister_shared.privacy.budget import Budget
from cloister_shared.privacy.events import Event, NonPrivate, SampledGaussian
from cloister_shared.privacy.ledger_chain import verify_ledger
from cloister_shared.privacy.ledger_format import LedgerExport
from cloister_shared.privacy.mechanism import Mechanism
from cloister_shared.privacy.noise import KeyedNoise, NoiseSource, SystemNoise
from cloister_shared.privacy.policy import Policy

__all__ = [
    "Budget",
    "Event",
    "KeyedNoise",
    "LedgerExport",
    "Mechanism",
    "NoiseSource",
    "NonPrivate",
    "Policy",
    "SampledGaussian",
    "SystemNoise",
    "epsilon",
    "rounds_that_fit",
    "verify_ledger",
]
