"""Medical images: read in a child process under limits, and brought to pixels in one declared order."""
