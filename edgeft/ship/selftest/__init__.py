"""Known-answer tests of one installation, for whoever must show that the tool works where it is used.

Each item states where its answer comes from, what was expected and what this machine gave. The tests of edgeft itself
are wider and need its source; these come with the package and need no network.
"""
