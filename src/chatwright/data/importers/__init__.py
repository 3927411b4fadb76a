"""Files of other projects -> prompts, demonstrations and rankings."""
