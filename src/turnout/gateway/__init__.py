"""The door on the wire: chat completions in, decided, forwarded, relayed, written to the journal.

Knows no table and no trainer. Web libraries load with `app`, not here.
"""
