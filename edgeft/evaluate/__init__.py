"""Numbers in, verdicts out: statistics, flips and gates. Nothing here sees a model, a runtime or a clock."""
