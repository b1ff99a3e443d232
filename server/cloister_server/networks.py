"""Whose an address is: the networks around it, from one machine's own to a provider's."""

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

_WIDTHS = {4: (32, 24, 16), 6: (64, 48, 32)}
"""Bits of networks that a machine, a customer and a provider may have all to themselves."""


def without_zone(address: str) -> str:
    """The address without the interface of this machine that a link-local one may name."""
    return address.partition("%")[0]


def networks(address: str) -> tuple[str, ...]:
    """The networks that ``address`` lies in, narrowest first; what is no address stands for itself.

    IPv6 begins with the /64: one machine may take any address in it.
    """
    try:
        parsed: IPv4Address | IPv6Address = ip_address(without_zone(address))
    except ValueError:
        return (address,)
    mapped = parsed.ipv4_mapped if isinstance(parsed, IPv6Address) else None
    parsed = mapped or parsed
    return tuple(str(ip_network((parsed, bits), strict=False)) for bits in _WIDTHS[parsed.version])
