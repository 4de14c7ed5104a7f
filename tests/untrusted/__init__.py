"""What comes from others: models, archives, recipes, data. Nothing of it runs, reads elsewhere or reaches a reader as markup."""
