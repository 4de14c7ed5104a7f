"""From answers to verdicts: scores, the choice, the gate set."""
