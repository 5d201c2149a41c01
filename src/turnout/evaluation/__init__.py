"""Router + samples → measurements with intervals beside trivial baselines, and batch scores."""
