"""How an institution's files become interactions: generic CSV and the ASSISTments export."""

from cloister_client.importing.assistments import assistments_curriculum
from cloister_client.importing.csv_table import ColumnMap
from cloister_client.importing.formats import FORMATS, read
from cloister_client.importing.tally import Tally

__all__ = ["FORMATS", "ColumnMap", "Tally", "assistments_curriculum", "read"]
