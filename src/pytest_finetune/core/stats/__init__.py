"""The tests behind a verdict, in the standard library.

Every test looks at differences ``D`` (candidate minus reference, one per row) with mean Δ, and answers two
one-sided questions at level alpha each: is Δ above ``d0``, is Δ below ``d0``, with p-values and bounds that agree
with both answers. A margin m is ``d0 = -m``.
"""

from __future__ import annotations

from pytest_finetune.core.stats.betting import StarBet, betting, betting_p
from pytest_finetune.core.stats.binomial import exact_binomial
from pytest_finetune.core.stats.clustered import MIN_UNITS, cluster_variance, clustered_t
from pytest_finetune.core.stats.decision import Decision
from pytest_finetune.core.stats.intervals import score_interval
from pytest_finetune.core.stats.mcnemar import mcnemar_mid_p
from pytest_finetune.core.stats.multiplicity import holm, holm_adjusted, spent_alpha
from pytest_finetune.core.stats.planning import (
    betting_rows,
    certifiable_margin,
    clustered_sd,
    discordant_sd,
    min_rows,
    power,
    rows_needed,
)
from pytest_finetune.core.stats.quantiles import Quantile, quantile, quantile_difference
from pytest_finetune.core.stats.ratio import ratio_interval
from pytest_finetune.core.stats.sequential import Sequential, State
from pytest_finetune.core.stats.tango import tango, tango_p, tango_z

__all__ = [
    "MIN_UNITS",
    "Decision",
    "Quantile",
    "Sequential",
    "StarBet",
    "State",
    "betting",
    "betting_p",
    "betting_rows",
    "certifiable_margin",
    "cluster_variance",
    "clustered_sd",
    "clustered_t",
    "discordant_sd",
    "exact_binomial",
    "holm",
    "holm_adjusted",
    "mcnemar_mid_p",
    "min_rows",
    "power",
    "quantile",
    "quantile_difference",
    "ratio_interval",
    "rows_needed",
    "score_interval",
    "spent_alpha",
    "tango",
    "tango_p",
    "tango_z",
]
