"""The gateway: decides, forwards and relays chat completions, and writes them to the journal.

Web libraries load with `app`, not here.
"""
