"""Time series: entries in the order of their times, packed, in the same file and transactions as the keys."""

from kvwasi.series.layout import Retention, Status, Time
from kvwasi.series.reads import Entry, SeriesReads
from kvwasi.series.series import Series

__all__ = ["Entry", "Retention", "Series", "SeriesReads", "Status", "Time"]
