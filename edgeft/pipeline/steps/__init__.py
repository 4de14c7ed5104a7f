"""What a plan is made of: every step of trunk and branches, and what the steps share."""
