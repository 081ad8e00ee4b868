"""What exists, as Dagster assets and checks."""
