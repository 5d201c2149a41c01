"""Router + samples → measurements with intervals beside trivial baselines, and batch scores.

Knows no trainer and no gateway. Scoring a table needs far less than measuring: neither loads here.
"""
