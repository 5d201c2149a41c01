"""Anthropic's SDK through the gateway.

ANTHROPIC_BASE_URL=http://127.0.0.1:8080 ANTHROPIC_API_KEY=… python anthropic_sdk.py
"""

from anthropic import Anthropic

client = Anthropic()

asked = [{"role": "user", "content": "Prove that the square root of 2 is irrational."}]
tokens = client.messages.count_tokens(model="turnout", messages=asked)
print("tokens:", tokens.input_tokens)

print("messages:", end=" ")
with client.messages.stream(model="turnout", max_tokens=1000, messages=asked) as stream:
    for text in stream.text_stream:
        print(text, end="")
print()
print("went to:", stream.response.headers["x-turnout-class"])
