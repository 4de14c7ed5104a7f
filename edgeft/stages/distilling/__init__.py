"""Learning from a teacher: the losses, what of two models is compared, and the teacher itself."""
