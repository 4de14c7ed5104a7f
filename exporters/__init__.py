"""Shipped with edgeft; installed as edgeft_exporters."""
