"""Versions of bundles and which of them is released, in a folder or an object store.

The place holds three kinds of files, and none is ever changed: bundles by the digest of their manifest, signatures that
came later, and a log in which each entry holds the hash of the one before. All else is worked out from them.
"""
