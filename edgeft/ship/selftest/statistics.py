"""The statistics that decide gates, on worked examples that others published."""

from __future__ import annotations

from collections.abc import Iterator

from edgeft.ship.selftest.items import Item, near, same

GROUP = "Statistics"
# DeLong, DeLong & Clarke-Pearson 1988, the 43 patients without missing values: total protein, K-G score, 1 where
# surgery did not benefit.
OVARIAN = """
5.8 10 0  6.3 5 1  6.8 3 1  4.8 6 0  5.8 3 1  4.0 5 0  5.7 8 0  5.6 5 1  5.7 5 1  6.7 6 1  5.4 4 1  6.6 6 1  6.6 5 1
5.7 5 1  7.0 4 1  6.7 4 0  4.4 6 1  7.6 4 0  6.6 6 0  5.8 6 1  6.8 7 1  4.7 8 0  7.4 5 1  7.4 5 1  6.6 6 1  8.2 6 1
7.0 5 1  6.5 4 1  5.1 5 1  4.7 6 1  6.8 6 0  4.0 7 0  6.1 5 1  6.3 7 1  7.7 6 1  6.2 5 1  5.7 9 0  4.8 7 1  6.2 8 0
7.0 7 1  5.7 6 1  6.9 5 1  6.6 5 1"""


def items() -> Iterator[Item]:
    """In the order of the report."""
    rows = [
        ("Clopper-Pearson interval, 15 of 148", "Newcombe 1998, Stat Med 17, Table I, method 5", _clopper),
        ("Cases that show a rate below 5, 1 and 10%", "success-run sizes 59, 299, 29 (Wilks 1941)", _unseen),
        ("Exact McNemar test, 6 and 16", "Fagerland, Lydersen & Laake 2013, BMC Med Res Methodol 13:91", _mcnemar),
        ("Mid-p McNemar test, 6 and 16", "Fagerland, Lydersen & Laake 2017, chapter 8", _midp),
        ("Tango's interval, 6 and 16 of 161", "Fagerland, Lydersen & Laake 2017, chapter 8", _tango),
        ("DeLong's paired difference", "SAS/STAT User's Guide, PROC LOGISTIC; DeLong et al. 1988", _delong),
        ("Bound of a loss with no flip in 299 cases", "1 - 0.05^(1/299), and what the rate of gains costs", _no_flip),
        ("Holm's adjustment of four p values", "R, p.adjust(c(0.01, 0.04, 0.03, 0.005), 'holm')", _holm),
        ("Average precision of four scores", "scikit-learn, the example of average_precision_score", _precision),
        (
            "Betting bound of a constant mean",
            "a bound of values that are all 1 lies below 1 and rises with n",
            _betting,
        ),
    ]
    return (Item(GROUP, name, source, ask) for name, source, ask in rows)


def _clopper() -> str:
    from edgeft.evaluate.statistics import clopper_pearson

    return near((0.0578, 0.1617), clopper_pearson(15, 148, 0.025), 5.1e-5)


def _unseen() -> str:
    from edgeft.evaluate.statistics import count_unseen

    return same([59, 299, 29], [count_unseen(rate, 0.05) for rate in (0.05, 0.01, 0.10)])


def _mcnemar() -> str:
    from edgeft.evaluate.statistics import mcnemar_exact

    return near((0.0525,), (mcnemar_exact(6, 16),), 5e-5)


def _midp() -> str:
    from edgeft.evaluate.paired import mcnemar_midp

    return near((0.034690,), (mcnemar_midp(6, 16),), 5.1e-7)


def _tango() -> str:
    from edgeft.evaluate.paired import tango_interval

    return near((-0.1240, -0.0054), tango_interval(6, 16, 161, 0.025), 5.1e-5)


def _delong() -> str:
    import numpy as np

    from edgeft.evaluate.auc import delong_interval, delong_variance, placements

    table = np.array(OVARIAN.split(), dtype=np.float64).reshape(-1, 3)
    positive = table[:, 2] == 0
    components = placements(-table[:, 0], positive) - placements(table[:, 1], positive)
    estimate, variance = (
        float(components[positive].mean()),
        delong_variance(components, positive, np.arange(len(table))),
    )
    low, high = delong_interval(estimate, variance, 0.025)
    return near((-0.0780, 0.1046, -0.2830, 0.1271), (estimate, variance**0.5, low, high), 5.1e-5)


def _no_flip() -> str:
    import numpy as np

    from edgeft.evaluate.unconditional import bound_loss

    none = np.zeros(299, dtype=bool)
    return near((0.01001,), (bound_loss(none, none, np.arange(299), 0.05).high,), 5e-6)


def _holm() -> str:
    from edgeft.evaluate.alarms import holm

    return near((0.03, 0.06, 0.06, 0.02), holm([0.01, 0.04, 0.03, 0.005]), 1e-12)


def _precision() -> str:
    import numpy as np

    from edgeft.evaluate.precision import average_precision

    found = average_precision(np.array([0.1, 0.4, 0.35, 0.8]), np.array([False, False, True, True]))
    return near((0.8333,), (float(found),), 5e-5)


def _betting() -> str:
    import numpy as np

    from edgeft.evaluate.betting import lower_mean

    few, many = (lower_mean(np.ones(n), 0.05) for n in (60, 600))
    return same("below 1 and rising", "below 1 and rising" if 0.5 < few < many < 1 else f"{few:.6f}, {many:.6f}")
