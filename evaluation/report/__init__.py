"""The page of a run: what was trained, on whom, how well, how privately."""

from evaluation.report.page import Chart, ReportData, Sheet, VideoCard, write_report

__all__ = ["Chart", "ReportData", "Sheet", "VideoCard", "write_report"]
