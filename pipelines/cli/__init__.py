"""`privfedtalk`: one file a command group; anything slow to import is imported inside the command.

Exit codes: 0 done, 1 a quality gate or an unexpected error, 2 something the user can mend, 130 interrupted;
`verify` has 0 for a signed manifest, 3 for a watermark alone, 1 for neither, 2 for a file that cannot be read. Under
--json standard output holds one document, of a failure its error and remedy.
"""

from __future__ import annotations

from pipelines.cli import (
    adapter,
    clients,
    config,
    consent,
    corpus,
    demo,
    generate,
    plan,
    results,
    tables,
    training,
    verify,
    weights,
)
from pipelines.cli.privacy import commands as privacy
from pipelines.terminal.errors import ReadableErrors
from pipelines.terminal.options import new_app

app = new_app(ReadableErrors, "Private, federated, personalised talking heads.")
app.command("demo")(demo.demo)
app.command("studio")(corpus.studio)
app.command("prepare")(corpus.prepare)
app.command("clients")(clients.clients)
app.command("train")(training.train)
app.command("evaluate")(results.evaluate)
app.command("report")(results.report)
app.command("generate")(generate.generate)
app.command("verify")(verify.verify)
app.command("tables")(tables.tables)
app.command("plan")(plan.plan)
app.command("config")(config.config)
app.add_typer(adapter.app, name="adapter")
app.add_typer(consent.app, name="consent")
app.add_typer(privacy.app, name="privacy")
app.add_typer(weights.app, name="weights")
