"""The ablations in the paper's Table 2; the full method is `privfedtalk`.

Privacy is noise in shares under secure aggregation, as in the full method, so `dp_only` has both. `adapters_only` is
FedAvg under another name, so that the table is complete for readers who do not know that.
"""

from __future__ import annotations

from training.federation.methods.base import Method


class AdaptersOnly(Method):
    """Federated adapters and nothing else; equal to FedAvg."""

    label = "Adapters only"
    description = "Table 2: federated adapters and nothing else, as FedAvg"
    tables = ("ablations",)


class DpOnly(Method):
    """Adapters under clipping, noise and secure aggregation."""

    label = "Privacy only"
    description = "Table 2: adapters under clipping, noise and secure aggregation"
    tables = ("ablations",)
    components = ("dp", "secure_aggregation")


class TdcOnly(Method):
    """Adapters trained with temporal-denoising consistency."""

    label = "TDC only"
    description = "Table 2: adapters with temporal-denoising consistency"
    tables = ("ablations",)
    components = ("tdc",)


class IsfaOnly(Method):
    """Adapters weighted by reliability."""

    label = "ISFA only"
    description = "Table 2: adapters weighted by reliability"
    tables = ("ablations",)
    components = ("isfa",)
