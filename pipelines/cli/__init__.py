"""`privfedtalk`: one file a command group; anything slow to import is imported inside the command.

Exit codes: 0 done, 1 a quality gate or an unexpected error, 2 something the user can mend, 130 interrupted.
"""

from __future__ import annotations

from pipelines.cli import clients, config, corpus, demo, plan, privacy, results, tables, training, weights
from pipelines.cli.errors import ReadableErrors
from pipelines.cli.shared import new_app

app = new_app(ReadableErrors, "Private, federated, personalised talking heads.")
app.command("demo")(demo.demo)
app.command("studio")(corpus.studio)
app.command("prepare")(corpus.prepare)
app.command("clients")(clients.clients)
app.command("train")(training.train)
app.command("evaluate")(results.evaluate)
app.command("report")(results.report)
app.command("tables")(tables.tables)
app.command("plan")(plan.plan)
app.command("config")(config.config)
app.add_typer(privacy.app, name="privacy")
app.add_typer(weights.app, name="weights")
