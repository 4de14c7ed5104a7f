"""`edgeft profile` and `edgeft compare`: models of any origin on a device."""
