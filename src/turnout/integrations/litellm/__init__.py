"""A router inside the LiteLLM proxy: as a classifier of its auto router, or as a pre-call hook."""
