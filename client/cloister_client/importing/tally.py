"""What one reading of a file met; shown to the administrator, never sent anywhere."""

from dataclasses import dataclass


@dataclass
class Tally:
    """Counts that grow while a file is read: its rows, and those skipped for want of a skill."""

    rows: int = 0
    without_skill: int = 0
