"""The paper's method, literally: each client adds noise to its own update, weights are divided by their sum.

Use it to compare the quality of `privfedtalk`, the form with a proof; never use it on updates of real people.
`training.privacy.mechanisms.paper_literal` says why it has no client-level proof.
"""

from __future__ import annotations

from common.errors import PrivFedTalkError
from training.federation.methods.base import Method
from training.settings import TrainingSettings
from training.settings.privacy import NO_PROOF


class PaperLiteral(Method):
    """ISFA weights over their sum, temporal-denoising consistency, clipping and each client's own Gaussian noise."""

    label = "Paper, literal"
    description = "the paper's formulas as they stand: each client's own noise, no client-level proof"
    tables = ()
    components = ("isfa", "tdc", "dp")

    def configure(self, settings: TrainingSettings) -> TrainingSettings:
        if settings.privacy.mode == "none":  # the component `dp` is switched off
            return settings
        if settings.privacy.secure_aggregation:
            raise PrivFedTalkError(
                "paper_literal weighs by each client's clip count and score, which the server must see one by one: "
                "secure aggregation would hide them",
                "leave secure_aggregation out of training.components.paper_literal, or use privfedtalk, whose weights "
                "need no private denominator",
            )
        return settings.model_copy(update={"privacy": settings.privacy.model_copy(update={"mode": NO_PROOF})})
