"""Report a test as iperf3 does, as text and as JSON, line by line as it happens.

Which iperf3: the columns of the text and its words are those of 3.12 to 3.21, which hardly differ;
the JSON keys are 3.21's, a superset of 3.12's.
"""

from netmeasure.export.iperf3.document import JsonReport
from netmeasure.export.iperf3.report import Report
from netmeasure.export.iperf3.settings import File, Settings
from netmeasure.export.iperf3.text import TextReport

__all__ = ["File", "JsonReport", "Report", "Settings", "TextReport"]
