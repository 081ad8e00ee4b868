"""`privfedtalk`: one file a command group; anything slow to import is imported inside the command.

Commands on a run have RUN as their first argument and `RunCommand` as their class.

Exit codes: 0 done, 1 a quality gate or an unexpected error, 2 something the user can mend, 130 interrupted;
`verify` has 0 for a signed manifest, 3 for a watermark alone, 1 for neither, 2 for a file that cannot be read. Under
--json standard output holds one document, which after a failure has the error and its remedy.
"""

from __future__ import annotations

from pipelines.cli import (
    adapter,
    clients,
    configuration,
    consent,
    corpus,
    demo,
    generate,
    results,
    training,
    verify,
    weights,
)
from pipelines.cli.privacy import commands as privacy
from pipelines.terminal.errors import ReadableErrors
from pipelines.terminal.options import new_app
from pipelines.terminal.run_argument import PrepareCommand, RunCommand

app = new_app(ReadableErrors, "Private, federated, personalised talking heads.")
app.command("demo", cls=RunCommand)(demo.demo)
app.command("studio")(corpus.studio)
app.command("prepare", cls=PrepareCommand)(corpus.prepare)
app.command("clients", cls=RunCommand)(clients.clients)
app.command("train", cls=RunCommand)(training.train)
app.command("evaluate", cls=RunCommand)(results.evaluate)
app.command("report", cls=RunCommand)(results.report)
app.command("generate", cls=RunCommand)(generate.generate)
app.command("verify")(verify.verify)
app.command("tables", cls=RunCommand)(results.tables)
app.command("plan")(configuration.plan)
app.command("config")(configuration.config)
app.add_typer(adapter.app, name="adapter")
app.add_typer(consent.app, name="consent")
app.add_typer(privacy.app, name="privacy")
app.add_typer(weights.app, name="weights")
