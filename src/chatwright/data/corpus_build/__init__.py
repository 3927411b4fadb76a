"""`chatwright corpus build`: raw text -> cleaned, deduplicated, split, tokenised shards. No torch.

Read `build.py` first: it is the whole way in order. `cleaner.py` holds what is asked of one document; its parts
(`normalise`, `quality`, `languages`, `profanity`, `decontaminate`) are plain functions that know nothing of one another.
"""
