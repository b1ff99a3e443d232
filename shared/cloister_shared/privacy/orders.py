"""The Rényi orders that budgets are kept at and reports choose from.

Whole numbers only: there the sampled Gaussian's RDP is a finite sum (Mironov et al. 2019, section
3.3), while at others its series converges slowly or, for some settings, not at all. One list for
both, so that a report is never above what the gate allowed.
"""

ORDERS = (*range(2, 65), *range(72, 257, 8), 320, 384, 512, 768, 1024, 2048, 4096)
