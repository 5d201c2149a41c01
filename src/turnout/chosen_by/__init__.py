"""Who chose a turn's model: a person, or the product itself."""
