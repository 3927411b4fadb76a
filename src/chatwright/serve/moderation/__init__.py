"""A small classifier of offensive texts and harmful requests, and the filters that use it. No torch."""
