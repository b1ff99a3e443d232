"""What coordinator and nodes must agree on; imports neither torch nor flwr."""

__version__ = "0.1.0"
