"""What the numbers are: metrics, protocol, tables, figures, the report."""
