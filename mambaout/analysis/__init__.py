"""What can be said about a model or the paper: costs, the paper's tables, the claims ledger."""
