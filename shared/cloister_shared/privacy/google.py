"""Google's dp-accounting behind one function; importing it brings scipy and takes a second."""

from dp_accounting import dp_event
from dp_accounting.rdp import RdpAccountant


def rdp_of_step(noise_multiplier: float, sampling_rate: float, order: float) -> float:
    """RDP of one step at an ``order`` that need not be a whole number."""
    gaussian = dp_event.GaussianDpEvent(noise_multiplier)
    engine = RdpAccountant(orders=[order])
    engine.compose(dp_event.PoissonSampledDpEvent(sampling_rate, gaussian))
    return float(engine.rdp[0])
