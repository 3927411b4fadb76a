"""Statistics that reports and the labelling desk share, on plain arrays: intervals, models of wins and ties."""
