"""A router on a log or a data set → the threshold to serve with, and what it promises."""
