"""Golden cases of what ships: which inputs, what was answered, how far another machine may be from it."""
