import pytest

from cloister_shared.errors import DataError
from cloister_simulations.dataset import Dataset, data_directory
from cloister_simulations.readers import READERS


def published(name: str) -> Dataset:
    try:
        directory = data_directory() / name
    except DataError as error:
        pytest.skip(str(error))
    return READERS[name](directory)


@pytest.fixture(scope="session")
def assistments2009() -> Dataset:
    return published("assistments2009")


@pytest.fixture(scope="session")
def assistments2015() -> Dataset:
    return published("assistments2015")


@pytest.fixture(scope="session")
def assistments2017() -> Dataset:
    return published("assistments2017")


@pytest.fixture(scope="session")
def oulad() -> Dataset:
    return published("oulad")


@pytest.fixture(scope="session")
def mooccubex() -> Dataset:
    return published("mooccubex")
