"""A compression search inside a build: questions become store steps, answers become rows."""
