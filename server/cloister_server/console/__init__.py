"""The operator's status page and metrics: on loopback, to be looked at, never to be changed by."""
